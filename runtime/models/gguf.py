"""A .gguf base model as a Hugging Face folder: converted once, kept in the cache folder.

Converting takes transformers some fifteen seconds, most of them on one core: `begin` starts it in another process, so that
the data stage can work meanwhile.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from runtime import console
from runtime.cache import cache_folder, one_at_a_time, whole
from runtime.starting import end_on_sigterm, quiet

_begun: dict[Path, subprocess.Popen[bytes]] = {}


def cached(file: Path) -> Path:
    """The folder that a file's conversion has or will have."""
    stat = file.stat()
    state = f"{file.resolve()}:{stat.st_size}:{stat.st_mtime_ns}:{version('transformers')}"
    return cache_folder() / f"{file.stem}-{hashlib.sha256(state.encode()).hexdigest()[:12]}"


def begin(file: Path) -> None:
    """Starts the conversion in another process, unless it is done."""
    target = cached(file)
    if not target.exists() and target not in _begun:
        console.say("base", f"{file.name} becomes a Hugging Face folder, once: {target}")
        # in a session of its own: Ctrl-C is for this process, which then ends that one
        words = [sys.executable, "-m", "runtime.models.gguf", str(file)]
        _begun[target] = subprocess.Popen(words, stdout=subprocess.DEVNULL, start_new_session=True)


@contextmanager
def conversions_end() -> Iterator[None]:
    """On leaving, conversions that were begun and that nobody waited for are ended."""
    try:
        yield
    finally:
        while _begun:
            _, process = _begun.popitem()
            process.terminate()
            process.wait()


def converted(file: Path) -> Path:
    """The converted folder; waits for a conversion that was begun, here or in another process, and converts where there is none.

    The processes of a training all ask for it at once, and each conversion holds the whole model in float32.
    """
    target = cached(file)
    if (process := _begun.pop(target, None)) is not None:
        process.wait()
    if not target.exists():
        with one_at_a_time(file):
            if not target.exists():
                convert(file, target)
    return target


def tokenizer_folder(file: Path) -> Path:
    """The folder that the tokenizer is read from, or will be: the converted one, or one of its own before that."""
    target = cached(file)
    return target if target.exists() else target.with_name(f"{target.name}-tokenizer")


def tokenizer(file: Path) -> Path:
    """The folder of the tokenizer, which does not wait for the weights: they may still be converted beside it."""
    folder = tokenizer_folder(file)
    if not folder.exists():
        from transformers import AutoTokenizer

        whole(folder, AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained)
    return folder


def convert(file: Path, target: Path) -> None:
    """Writes weights, settings and tokenizer. Weights become float32: what the quantized file stands for, exactly."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    settings = AutoConfig.from_pretrained(file.parent, gguf_file=file.name)  # read once: each reading takes seconds

    def write(folder: Path) -> None:
        model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, config=settings, dtype=torch.float32)
        model.hf_quantizer = None  # the weights are plain now; save_pretrained would refuse them as GGUF
        model.config.__dict__.pop("quantization_config", None)
        model.config.__dict__.pop("_name_or_path", None)
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, config=settings).save_pretrained(folder)

    whole(target, write)


def main(file: Path) -> None:
    """The other process: ended by SIGTERM, it leaves nothing half written."""
    end_on_sigterm()
    quiet()
    converted(file)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
