"""Packages that a run has no use for are not loaded: transformers, peft and accelerate import some as soon as they are installed."""

from __future__ import annotations

import sys

from runtime.config import Config, HubSource, LlmSource, Source, sources_of

BITSANDBYTES = ("adamw_bnb", "adamw_8bit", "ademamix", "lion", "paged", "rmsprop_bnb")  # what names of its optimizers begin with


def without_unused(config: Config) -> None:
    """Hides such packages from everything that this process loads from now on. On two cores they take 1.3 s (LOG.md)."""
    if config.model.trust_remote_code:
        return
    for name in unused(config):
        if name not in sys.modules:
            _hide(name)


def _hide(name: str) -> None:
    sys.modules[name] = None  # type: ignore[assignment]  # as Python's import system says that there is none


def unused(config: Config) -> set[str]:
    """The packages among those that take long which no stage of this run asks for."""
    quantizes = config.model.quantization is not None or config.export.quantized is not None
    names = set()
    if not quantizes and not config.train.optimizer.startswith(BITSANDBYTES):
        names.add("bitsandbytes")
    if not config.distributed.zero_stage:
        names.add("deepspeed")
    if not (config.eval and config.eval.tasks) and not any(isinstance(source, HubSource) for source in _sources(config)):
        names.add("datasets")
    return names


def _sources(config: Config) -> tuple[Source, ...]:
    """Of the data stage and of the evaluation."""
    return (*sources_of(config.data), *(config.eval.sources if config.eval else ()))


def without_torch(config: Config) -> None:
    """Hides PyTorch from transformers, whose tokenizers then start in a third of the time; the data stage needs no more.

    Not where it is needed all the same: to read the tokenizer of a .gguf file for the first time, by a model's own code, or by a
    model that writes rows here.
    """
    from runtime.models.base import has_tokenizer

    writes = any(isinstance(source, LlmSource) and source.local for source in sources_of(config.data))
    if has_tokenizer(config.model.base) and not config.model.trust_remote_code and not writes:
        _hide("torch")
        from transformers.utils import is_torch_available

        assert not is_torch_available()  # transformers asks once, and remembers
        del sys.modules["torch"]  # datasets takes an entry for PyTorch itself
