"""Cross entropy of hidden states through an output layer, a few rows at a time: all logits are never there at once.

The gradient is worked out with the loss, chunk by chunk, as Liger's fused kernel does it (Hsu et al. 2024, arXiv:2410.10989), for any
output layer: it is differentiated as a module, so one that is quantized, or has an adapter or a bias, is as any other. The
alternative, chunks that are computed again in the backward pass (torch.utils.checkpoint), takes one product of three more,
draws an adapter's dropout twice and needs the layer's weights again, which ZeRO-3 has given back by then (numbers in LOG.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from runtime.models.shaping import Shaping

CHUNK_BYTES = {"cpu": 64 * 2**20, "cuda": 256 * 2**20}  # of a chunk's logits in float32
LEAST_ROWS = 128
FLOAT16_SCALE = 1024.0  # a float16 gradient of a probability below 6e-8 would be zero

# N trained positions, C those of a chunk, D model, V vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What the rows predict: tokens [N], int64, and what each counts [N], float32, or None for one each."""

    tokens: torch.Tensor
    weights: torch.Tensor | None
    label_smoothing: float

    def losses(self, logits_CV: torch.Tensor, rows: slice = slice(None)) -> torch.Tensor:
        """Cross entropy [C] of some rows in float32 nats, each times its weight. Smoothing is transformers' LabelSmoother's: that
        share of the loss is the mean over the whole vocabulary."""
        losses_C = functional.cross_entropy(logits_CV.float(), self.tokens[rows], reduction="none", label_smoothing=self.label_smoothing)
        return losses_C if self.weights is None else losses_C * self.weights[rows]


def chunk_rows(vocabulary: int, device: str, *, trained_columns: int = 0) -> int:
    """Rows of a chunk. At least 128, as each chunk reads the whole weight; where the layer is trained, at least a quarter of the
    columns of its weight: the gradient of the whole weight is added up once a chunk."""
    return max(LEAST_ROWS, CHUNK_BYTES.get(device, CHUNK_BYTES["cuda"]) // (4 * vocabulary), trained_columns // 4)


def chunked_losses(
    output_layer: Any, hidden_ND: torch.Tensor, targets: Targets, shaping: Shaping, *, rows: int, by_liger: bool = False
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(the summed loss, float32; the loss of each row [N], or None where Liger summed them: `by_liger` allows that).

    The layer's `forward` is called, not the layer itself: its own hooks have run (loss.py).
    """
    if by_liger and torch.is_grad_enabled() and liger_takes(output_layer, hidden_ND, targets, shaping):
        return _by_liger(output_layer, hidden_ND, targets, shaping), None

    def losses_of(hidden_CD: torch.Tensor, here: slice) -> torch.Tensor:
        return targets.losses(shaping(output_layer.forward(hidden_CD)), here)

    chunks = [slice(start, min(start + rows, len(hidden_ND))) for start in range(0, len(hidden_ND), rows)]
    trained = [parameter for parameter in output_layer.parameters() if parameter.requires_grad]
    if not torch.is_grad_enabled() or not (hidden_ND.requires_grad or trained):
        losses_N = torch.cat([hidden_ND.new_zeros(0, dtype=torch.float32), *(losses_of(hidden_ND[here], here) for here in chunks)])
        return losses_N.sum(), losses_N
    summed, losses_N = _GradientAhead.apply(losses_of, chunks, hidden_ND, *trained)
    return summed, losses_N


class _GradientAhead(torch.autograd.Function):
    """The sum of losses and each of them; the gradients of the sum are there, in float32, when the forward pass ends."""

    @staticmethod
    def forward(ctx: Any, losses_of: Any, chunks: Sequence[slice], hidden_ND: torch.Tensor, *trained: nn.Parameter) -> Any:
        wants_hidden = ctx.needs_input_grad[2]
        losses_N = torch.zeros(len(hidden_ND), dtype=torch.float32, device=hidden_ND.device)
        gradient_ND = torch.zeros_like(hidden_ND, dtype=torch.float32) if wants_hidden else None
        gradients = [torch.zeros_like(parameter, dtype=torch.float32) for parameter in trained]
        scale = FLOAT16_SCALE if hidden_ND.dtype == torch.float16 else 1.0
        for here in chunks:
            with torch.enable_grad():
                hidden_CD = hidden_ND[here].detach().requires_grad_(wants_hidden)
                losses_C = losses_of(hidden_CD, here)
                sources = [hidden_CD, *trained] if wants_hidden else [*trained]
                found = list(torch.autograd.grad(losses_C.sum() * scale, sources, allow_unused=True))
            losses_N[here] = losses_C.detach()
            if gradient_ND is not None:
                gradient_ND[here] = found.pop(0).float() / scale
            for gradient, more in zip(gradients, found, strict=True):
                if more is not None:
                    gradient.add_(more, alpha=1 / scale)
        ctx.save_for_backward(gradient_ND, *gradients)
        ctx.dtypes = [tensor.dtype for tensor in (hidden_ND, *trained)]
        ctx.mark_non_differentiable(losses_N)
        return losses_N.sum(), losses_N

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor, _: torch.Tensor) -> Any:
        pairs = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        scaled = [
            None if saved is None else saved.mul_(gradient).to(dtype) for saved, dtype in pairs
        ]  # in place: there is one backward pass
        return None, None, *scaled


def liger_takes(output_layer: Any, hidden_ND: torch.Tensor, targets: Targets, shaping: Shaping) -> bool:
    """Whether Liger's fused linear cross entropy does what is wanted here: on a GPU, of a plain layer of the hidden states' type,
    rows that count one each, no factor. Without a row it divides by zero, and where the hidden states need no gradient it makes none
    of the weight either: the layer would learn nothing."""
    is_plain = type(output_layer) is nn.Linear and hidden_ND.is_cuda and hidden_ND.dtype == output_layer.weight.dtype
    counts_alike = targets.weights is None and shaping.scale == 1
    return is_plain and counts_alike and len(hidden_ND) > 0 and hidden_ND.requires_grad


def _by_liger(output_layer: nn.Linear, hidden_ND: torch.Tensor, targets: Targets, shaping: Shaping) -> torch.Tensor:
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    loss = LigerFusedLinearCrossEntropyLoss(label_smoothing=targets.label_smoothing, reduction="sum", softcap=shaping.cap)
    summed: torch.Tensor = loss(output_layer.weight, hidden_ND, targets.tokens, output_layer.bias)
    return summed.float()
