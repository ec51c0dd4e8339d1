"""The type that a device computes in.

A processor without instructions for 16-bit products takes 10 to 90 times as long for them as for float32 (LOG.md). Answers are then
computed in float32 of the same weights, which is no less exact; training computes as the spec says, and tells.
"""

from __future__ import annotations

from typing import TypeVar

import torch

from runtime import console

SLOW = "SG495"
Model = TypeVar("Model", bound=torch.nn.Module)


def is_slow(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the device lacks instructions for products of this type."""
    if device.type != "cpu" or dtype not in (torch.bfloat16, torch.float16):
        return False
    mkldnn = torch.ops.mkldnn
    return not (mkldnn._is_mkldnn_bf16_supported() if dtype == torch.bfloat16 else mkldnn._is_mkldnn_fp16_supported())


def for_answers(model: Model) -> Model:
    """The model in evaluation mode, with the same weights in float32 where that is much faster; a quantized one stays as it is."""
    weight = next(model.parameters())
    if is_slow(weight.dtype, weight.device) and not getattr(model, "is_quantized", False):
        model.float()
    model.eval()
    return model


def told_if_slow(dtype: torch.dtype, device: torch.device) -> None:
    """A line where training computes in a type that the device is slow in."""
    if is_slow(dtype, device):
        name = str(dtype).removeprefix("torch.")
        console.say(
            "train", f"warning {SLOW}: this processor has no instructions for {name}; float32 is far faster: --set model.dtype=float32"
        )
