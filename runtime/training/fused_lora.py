"""LoRA beside a frozen linear layer as one operation of autograd.

peft's own takes four, rounds to the layer's type after each, and keeps as much; a step of a small model takes a tenth less time as
one (LOG.md). The idea is Unsloth's (its fast_lora.py, for Triton); the derivatives are those of y = x W' + s (x A') B'.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch import nn
from torch.nn import functional

# N positions, I features in, O out, R rank


class _LoraLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_NI: torch.Tensor,
        weight_OI: torch.Tensor,
        bias_O: torch.Tensor | None,
        a_RI: torch.Tensor,
        b_OR: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        ctx.dtype = a_RI.dtype
        a_RI, b_OR = a_RI.to(weight_OI.dtype), b_OR.to(weight_OI.dtype)
        down_NR = x_NI @ a_RI.t()
        ctx.save_for_backward(x_NI, weight_OI, a_RI, b_OR, down_NR)
        ctx.scaling = scaling
        return functional.linear(x_NI, weight_OI, bias_O).addmm_(down_NR, b_OR.t(), alpha=scaling)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad_NO,) = gradients
        x_NI, weight_OI, a_RI, b_OR, down_NR = ctx.saved_tensors
        down_grad_NR = (grad_NO @ b_OR).mul_(ctx.scaling)
        x_grad = (grad_NO @ weight_OI).addmm_(down_grad_NR, a_RI) if ctx.needs_input_grad[0] else None
        a_grad, b_grad = down_grad_NR.t() @ x_NI, grad_NO.t() @ down_NR
        return x_grad, None, None, a_grad.to(ctx.dtype), b_grad.to(ctx.dtype).mul_(ctx.scaling), None


@contextmanager
def fused(model: nn.Module, *, active: bool = True) -> Iterator[None]:
    """Within, if `active`, those layers of a model that can be have their adapter computed in one operation."""
    layers = [module for module in model.modules() if type(module) is Linear and _can_be(module)] if active else []
    for layer in layers:
        layer.forward = functools.partial(_forward, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _can_be(layer: Linear) -> bool:
    """Whether the layer has one plain adapter beside a weight that is frozen and whole."""
    base, names = layer.get_base_layer(), layer.active_adapters
    return (
        type(base) is nn.Linear
        and not hasattr(base.weight, "ds_id")  # ZeRO-3 gathers weights when the layer is called as a module
        and not base.weight.requires_grad
        and (base.bias is None or not base.bias.requires_grad)
        and len(names) == 1
        and not layer.lora_variant
        and not layer.lora_bias[names[0]]
        and isinstance(layer.lora_dropout[names[0]], nn.Identity)
    )


def _forward(layer: Linear, x: torch.Tensor, *arguments: Any, **named: Any) -> torch.Tensor:
    """As peft's forward of the layer: x [..., I] → [..., O]."""
    if arguments or named or layer.disable_adapters or layer.merged:
        return type(layer).forward(layer, x, *arguments, **named)
    base, (name,) = layer.get_base_layer(), layer.active_adapters
    y_NO = _LoraLinear.apply(
        x.reshape(-1, x.shape[-1]).to(base.weight.dtype),
        base.weight,
        base.bias,
        layer.lora_A[name].weight,
        layer.lora_B[name].weight,
        layer.scaling[name],
    )
    return y_NO.view(*x.shape[:-1], y_NO.shape[-1])
