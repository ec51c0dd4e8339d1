"""bitsandbytes' layers without values: weights in 4 or 8 bits with their scales, in its own layout, for runtime.measure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from runtime.config import ModelConfig, Nf4Quantization
from runtime.models.model import quantization_settings, skipped_modules, torch_dtype

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BLOCK, OUTER_BLOCK = 64, 256  # values to a scale, and scales to a scale of their own


def quantize(model: PreTrainedModel, settings: ModelConfig) -> None:
    """Replaces linear layers by bitsandbytes', as transformers does on loading."""
    from transformers.integrations.bitsandbytes import replace_with_bnb_linear

    quantization = settings.quantization
    assert quantization is not None
    replace_with_bnb_linear(model, skipped_modules(settings), quantization_settings(settings))
    bits = "4bit" if isinstance(quantization, Nf4Quantization) else "8bit"
    setattr(model, f"is_loaded_in_{bits}", True)


def quantized_like(module: nn.Module, tensor: torch.Tensor, settings: ModelConfig, device: torch.device) -> nn.Parameter | None:
    """A packed weight in the place of one; None where it stays whole."""
    kind = type(tensor).__name__
    if kind == "Params4bit":
        return four_bits(tensor, settings, device)
    if kind == "Int8Params":
        return eight_bits(module, tensor, device)
    return None


def eight_bits(module: Any, tensor: torch.Tensor, device: torch.device) -> nn.Parameter:
    """An int8 weight of bitsandbytes, with the scales [rows] that it keeps beside, float32."""
    weight = nn.Parameter(torch.empty(tensor.shape, dtype=torch.int8, device=device), requires_grad=False)
    module.state.CB, module.state.SCB = weight.data, _floats(tensor.shape[0], device)
    weight.CB = weight.SCB = None  # where bitsandbytes looks for what is not in the state yet
    return weight


def four_bits(tensor: torch.Tensor, settings: ModelConfig, device: torch.device) -> nn.Parameter:
    """A weight of bitsandbytes in 4 bits, two to a byte, uint8 [numel / 2, 1], with the scales of its blocks."""
    from bitsandbytes.functional import QuantState

    assert isinstance(settings.quantization, Nf4Quantization)
    blocks = -(-tensor.numel() // BLOCK)
    outer: Any = None
    if settings.quantization.double_quant:
        absmax, code = _floats(-(-blocks // OUTER_BLOCK), device), _floats(256, device)
        outer = QuantState(absmax=absmax, code=code, blocksize=OUTER_BLOCK, dtype=torch.float32)
    weight = nn.Parameter(torch.empty((tensor.numel() + 1) // 2, 1, dtype=torch.uint8, device=device), requires_grad=False)
    state = QuantState(
        absmax=torch.empty(blocks, dtype=torch.uint8 if outer else torch.float32, device=device),
        shape=tensor.shape,
        code=_floats(16, device),
        blocksize=BLOCK,
        quant_type="nf4",
        dtype=torch_dtype(settings.dtype),
        offset=torch.empty((), device=device) if outer else None,
        state2=outer,
    )
    setattr(weight, "quant_state", state)  # noqa: B010  (a parameter is not said to have one)
    return weight


def _floats(count: int, device: torch.device) -> torch.Tensor:
    return torch.empty(count, dtype=torch.float32, device=device)
