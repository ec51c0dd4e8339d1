"""The weights that a quantized base stands for, tensor by tensor: quantized as in training, and back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig
from transformers.quantizers import AutoHfQuantizer

from runtime.models.model import auto_class
from runtime.training.initial import Taken


def dequantized(
    folder: Path, settings: Any, *, dtype: torch.dtype, taken: Taken, device: torch.device, trust_remote_code: bool = False
) -> Callable[[str, torch.Tensor], torch.Tensor]:
    """Makes of a base weight, by its name, what the model computed with in training. `settings` are a BitsAndBytesConfig."""
    quantized = _quantized_layers(folder, settings, dtype, trust_remote_code)

    def prepare(name: str, weight: torch.Tensor) -> torch.Tensor:
        own = weight.to(dtype) if weight.is_floating_point() else weight
        if name not in quantized:
            return own
        module = name.removesuffix(".weight")
        if module in taken:
            first, second = taken[module]
            own = (weight.float() - second @ first).to(dtype)
        return _there_and_back(own, settings, device)

    return prepare


def _quantized_layers(folder: Path, settings: Any, dtype: torch.dtype, trust_remote_code: bool) -> frozenset[str]:
    """The weights that transformers quantizes; it says so of a model without values."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    with torch.device("meta"):
        model = auto_class(folder).from_config(config, dtype=dtype, trust_remote_code=trust_remote_code)
        AutoHfQuantizer.from_config(settings, pre_quantized=False).preprocess_model(model=model, dtype=dtype, device_map=None)
    quantized = ("Linear4bit", "Linear8bitLt")
    return frozenset(f"{name}.weight" for name, layer in model.named_modules() if type(layer).__name__ in quantized)


def _there_and_back(weight: torch.Tensor, settings: Any, device: torch.device) -> torch.Tensor:
    from bitsandbytes.functional import dequantize_4bit, int8_vectorwise_dequant
    from bitsandbytes.nn.modules import Int8Params, Params4bit

    if settings.load_in_4bit:
        options = {"compress_statistics": settings.bnb_4bit_use_double_quant, "quant_type": settings.bnb_4bit_quant_type}
        packed = Params4bit(weight.cpu(), requires_grad=False, **options).to(device)
        return dequantize_4bit(packed.data, packed.quant_state)
    eight = Int8Params(weight.cpu(), requires_grad=False, has_fp16_weights=False).to(device)
    return int8_vectorwise_dequant(eight.data, eight.SCB)
