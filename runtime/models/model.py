"""The base model: its tokenizer, its settings, its weights, loaded from the folder that base.py finds."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.config import Int8Quantization, ModelConfig, Nf4Quantization, TemplateConfig
from runtime.devices import pick_device, roomy_device
from runtime.faults import WRONG, RunFault
from runtime.internlm2.folders import readable, readable_tokenizer
from runtime.models import gguf
from runtime.models.base import folder_of, locate, locate_tower
from runtime.models.from_run import result_of
from runtime.tokens.tokenizer import begin_conversations
from runtime.vision.folders import assembled, is_llava
from runtime.vision.tokens import add_image_token

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

SEEING = ("model.vision_tower", "model.multi_modal_projector", "lm_head")  # of a model that sees: never quantized; by their whole names
KERNEL_ROWS = 32  # of bitsandbytes' kernel for 4 bits on a CPU


def folder_of_model(model: ModelConfig) -> Path:
    """What training begins with as a Hugging Face folder: the base model; what an earlier run made of it; with a vision tower, both as
    one LLaVA folder, put together once. Raises RunFault."""
    if model.from_run is not None:
        return readable(result_of(model))
    if model.vision is None:
        return folder_of(model.base)
    return assembled(folder_of(model.base), locate_tower(model.vision.tower), model.vision)


def load_tokenizer(model: ModelConfig, template: TemplateConfig) -> PreTrainedTokenizerBase:
    """The base model's tokenizer, with the chat template of the config, beginning as the tokenizer begins a text."""
    from transformers import AutoTokenizer

    path = locate(model.base, weights=False)
    folder = readable_tokenizer(path) if path.is_dir() else gguf.tokenizer(path)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=model.trust_remote_code)
    if template.jinja is not None:
        tokenizer.chat_template = template.jinja
    if model.vision is not None:
        add_image_token(tokenizer)
    begin_conversations(tokenizer)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # padding is masked by position, never by this id
    return tokenizer


def load_config(model: ModelConfig) -> PreTrainedConfig:
    """The model's config.json, as transformers reads it."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder_of_model(model), trust_remote_code=model.trust_remote_code)


def load_model(model: ModelConfig, *, device: torch.device, attention: str | None = None, dtype: str | None = None) -> PreTrainedModel:
    """The base model with frozen weights of the config's dtype or another, quantized if it says so, on a device.

    `attention` is by its name in transformers, which chooses where it is None. Raises RunFault where skip_modules names no module.
    """
    options: dict[str, Any] = {}
    if model.quantization is not None:
        options = {"quantization_config": quantization_settings(model), "device_map": {"": device}}
    folder = folder_of_model(model)
    loaded: PreTrainedModel = auto_class(folder).from_pretrained(
        folder,
        dtype=torch_dtype(dtype or model.dtype),
        attn_implementation=attention,
        trust_remote_code=model.trust_remote_code,
        **options,
    )
    if model.quantization is not None:
        modules = [name for name, _ in loaded.named_modules()]
        message = "skip_modules names {name}, which matches 0 modules of the base model"
        require_modules("SG247", message, modules, model.quantization.skip_modules)
        keep_packing(loaded)
    loaded.requires_grad_(False)
    return loaded if options else loaded.to(device)


def auto_class(folder: Path) -> Any:
    """transformers' class that makes the model of a folder: one that sees, or one that only reads."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    return AutoModelForImageTextToText if is_llava(folder) else AutoModelForCausalLM


def skipped_modules(model: ModelConfig) -> list[str]:
    """What is not quantized, as the spec says; and what sees, with the output layer, where the model has that."""
    assert model.quantization is not None
    return skipped_with(model.quantization.skip_modules, sees=model.vision is not None)


def skipped_with(named: Iterable[str], *, sees: bool) -> list[str]:
    """What is not quantized where these modules are named: each of them once, and of a model that `sees` what sees."""
    return list(dict.fromkeys([*named, *(SEEING if sees else ())]))


def keep_packing(model: nn.Module, *, where_needed: bool = False) -> None:
    """Keeps 4-bit weights packed as they were loaded; `where_needed` only those whose sizes another packing cannot hold.

    At the first pass in evaluation mode (a preview, a validation, the proof of packing) bitsandbytes (0.50) packs them anew on a CPU
    with AVX512-BF16, for a kernel without a gradient: nothing would flow back through them from then on (measured), and who expands
    them finds other numbers: DoRA in every step, and the checks of LoftQ. That packing takes whole blocks: of weights that have others
    it raises an error (its functional._convert_weight_packed_for_cpu).
    """
    for module in model.modules():
        if not hasattr(module, "support_avx512bf16_for_cpu"):
            continue
        if not where_needed or module.in_features % module.weight.blocksize or module.out_features % KERNEL_ROWS:
            module.support_avx512bf16_for_cpu = False


def quantization_settings(model: ModelConfig) -> Any:
    """The quantization in transformers' terms. Raises RunFault where bitsandbytes is missing."""
    assert model.quantization is not None
    return bitsandbytes_settings(model.quantization, skipped_modules(model))


def bitsandbytes_settings(quantization: Nf4Quantization | Int8Quantization, skipped: list[str]) -> Any:
    """The same of a quantization alone, with all the modules that it leaves out."""
    from transformers import BitsAndBytesConfig

    require_bitsandbytes("quantization")
    if isinstance(quantization, Nf4Quantization):
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=quantization.double_quant,
            bnb_4bit_compute_dtype=torch_dtype(quantization.compute_dtype),
            llm_int8_skip_modules=skipped,
        )
    return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)


def require_bitsandbytes(what: str) -> None:
    """Raises RunFault where bitsandbytes is not installed."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise RunFault("SG413", f"{what} needs bitsandbytes, which is not installed", "pip install 'specgen[qlora]'")


def require_modules(code: str, message: str, modules: Iterable[str], names: Iterable[str]) -> None:
    """Raises RunFault for the first name that is neither a module's nor the end of a module's dotted path."""
    for name in names:
        if not any(is_called(module, name) for module in modules):
            raise RunFault(code, message.format(name=name), exit_code=WRONG)


def is_called(module: str, name: str) -> bool:
    """Whether a module's dotted path is that name, or ends in a dot and it."""
    return module == name or module.endswith(f".{name}")


def numbers_of(parameter: torch.Tensor) -> int:
    """How many numbers a parameter is: packed in 4 bits, those that it was made of; shared out by ZeRO-3, those of all processes."""
    of_all: int | None = getattr(parameter, "ds_numel", None)
    return of_all if of_all is not None else int(getattr(parameter, "quant_state", parameter).shape.numel())


def torch_dtype(name: str) -> torch.dtype:
    """float32 | float16 | bfloat16, as torch has them."""
    import torch

    return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[name]


def base_device(model: ModelConfig, choice: str) -> torch.device:
    """Where the base model is asked. Quantized it takes less there than its training did; whole, auto takes a GPU that has room."""
    if model.quantization is not None:
        return pick_device(choice)
    return roomy_device(choice, folder_of_model(model), torch_dtype(model.dtype))
