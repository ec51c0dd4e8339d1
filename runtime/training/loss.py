"""The loss over trained positions only: hidden states of all other positions never reach the output layer, and what does goes
through it in chunks (chunks.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from runtime.data.dataset import IGNORED
from runtime.models.shaping import candidates, fitting, probes
from runtime.training.chunks import Targets, chunk_rows, chunked_losses

ZERO_3 = "ZeRO-3 gathers an adapter or a copy of it for its own call only"
MODEL_INPUTS = ("input_ids", "attention_mask", "position_ids", "pixel_values")

# B batch, T tokens, N trained positions, R probes, D model, V vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLoss:
    """The summed loss of a batch, in float32 nats; `losses` of each trained position [N], without a gradient, None where Liger
    summed them; `kept` says which positions those are [B, T]. `auxiliary` is what a mixture of experts adds, times its
    coefficient."""

    summed: torch.Tensor
    losses: torch.Tensor | None
    kept: torch.Tensor
    auxiliary: torch.Tensor | None

    def by_row(self) -> torch.Tensor:
        """The summed loss of each row [B]."""
        assert self.losses is not None, "Liger is for training"
        return self.losses.new_zeros(len(self.kept)).index_add_(0, self.kept.nonzero()[:, 0], self.losses.detach())


class OutputLoss:
    """Cross entropy of the labelled positions of a batch, each times its weight where `inputs` have `weights` [B, T].

    A hook on the output layer takes the hidden states that go in. The layer itself, and what the model does after it, then see
    a few probes only, whose logits show in the first batch how the model shapes them (shaping.py). Where that stays unknown,
    the model makes the logits of all trained positions at once; where it does not call its output layer as a module, all logits
    there are. `whole_because` says why, or is None.

    ZeRO-3 gathers the layer's weights for its backward pass when that pass comes to the layer's own call. So the loss then
    hangs on the logits of that call, too, by a sum over none of them. Parts of the layer that are trained and modules of their own
    (an adapter, a copy) it gathers for its own call only: the logits are made at once then, too.
    """

    def __init__(self, model: Any, *, label_smoothing: float = 0.0, by_liger: bool = False) -> None:
        """`model` is not wrapped, except by peft; whatever DeepSpeed hooks to it is there already. `label_smoothing` is for training:
        where gradients are off, the loss is the plain one. `by_liger` takes Liger's kernel where that can do it; it is installed
        then."""
        self.config = model.config
        self.layer = model.get_output_embeddings()
        self.vocabulary: int = model.config.get_text_config().vocab_size
        self.label_smoothing, self.by_liger = label_smoothing, by_liger
        self.whole_because = ZERO_3 if any(map(_is_shared_out, trained_parts(self.layer))) else None
        self.is_shared_out = self.layer is not None and any(map(_is_shared_out, self.layer.parameters()))
        self.shaping, self.is_shown = next(candidates(self.config)), False
        self._kept_BT: torch.Tensor | None = None
        self._targets: Targets | None = None
        self._found: tuple[torch.Tensor, torch.Tensor | None] | None = None
        self._output: torch.Tensor | None = None
        self._hooks: list[Any] = []
        if self.layer is not None:
            self._hooks = [self.layer.register_forward_pre_hook(self._enter), self.layer.register_forward_hook(self._leave)]

    def __call__(self, model: nn.Module, inputs: dict[str, torch.Tensor]) -> BatchLoss:
        """`model` may be wrapped (DistributedDataParallel, DeepSpeed, torch.compile). `inputs` holds input_ids, labels, and
        attention_mask (rows) or position_ids (packs: data/packing.py), int64 [B, T]; maybe pixel_values, float32 [I, 3, H, W]."""
        targets_BT = functional.pad(inputs["labels"], (0, 1), value=IGNORED)[:, 1:]
        kept_BT = targets_BT != IGNORED
        weights_N = functional.pad(inputs["weights"], (0, 1))[:, 1:][kept_BT] if "weights" in inputs else None
        smoothing = self.label_smoothing if torch.is_grad_enabled() else 0.0
        targets = Targets(tokens=targets_BT[kept_BT], weights=weights_N, label_smoothing=smoothing)
        outputs = self._run(model, inputs, kept_BT, targets)
        if not self.is_shown and self._is_another(outputs.logits):
            outputs = self._run(model, inputs, kept_BT, targets)
        summed, losses_N = self._found or _of_logits(outputs.logits, kept_BT, targets)
        if self._found is not None and self.is_shared_out:
            summed = summed + outputs.logits.flatten()[:0].sum()
        self._found = self._output = None
        return BatchLoss(summed=summed, losses=losses_N, kept=kept_BT, auxiliary=self._auxiliary(outputs))

    def _is_another(self, logits: torch.Tensor) -> bool:
        """Learns from the first batch how the model makes logits of its output layer's numbers; whether that was not assumed."""
        self.is_shown = True
        if self.whole_because:
            return False
        if self._output is None:
            self.whole_because = "the model does not call it as a module"
            return False
        assumed, found = self.shaping, fitting(self.config, self._output, logits.detach())
        if found is None:
            self.whole_because = "what the model does with its numbers is not known"
        self.shaping = found or assumed
        return found != assumed

    def close(self) -> None:
        """Takes the hooks away."""
        for hook in self._hooks:
            hook.remove()

    def _run(self, model: nn.Module, inputs: dict[str, torch.Tensor], kept_BT: torch.Tensor, targets: Targets) -> Any:
        self._kept_BT, self._targets, self._found = kept_BT, targets, None
        try:
            return model(**{name: inputs[name] for name in MODEL_INPUTS if name in inputs}, use_cache=False)
        finally:
            self._kept_BT = self._targets = None

    @torch.compiler.disable
    def _enter(self, layer: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """What goes into the output layer instead of all hidden states [B, T, D]; nothing is changed outside of __call__."""
        kept_BT, targets, self._kept_BT = self._kept_BT, self._targets, None
        if kept_BT is None or len(arguments) != 1 or arguments[0].shape[:-1] != kept_BT.shape:
            return None
        (hidden_BTD,) = arguments
        hidden_ND = hidden_BTD[kept_BT]
        if self.whole_because:
            return (hidden_ND,)
        assert targets is not None
        rows = self.chunk_rows(hidden_ND.device)
        self._found = chunked_losses(layer, hidden_ND, targets, self.shaping, rows=rows, by_liger=self.by_liger)
        with torch.set_grad_enabled(self.is_shared_out and torch.is_grad_enabled()):
            one_11D = hidden_BTD[:1, :1]
            return (one_11D if self.is_shown else probes(layer, hidden_BTD) + 0 * one_11D,)

    @torch.compiler.disable
    def _leave(self, _layer: nn.Module, _arguments: tuple[Any, ...], output: torch.Tensor) -> None:
        if self._found is not None and not self.is_shown:
            self._output = output.detach()

    def chunk_rows(self, device: torch.device) -> int:
        """Rows that go through the output layer together."""
        columns = max((weight.numel() // self.vocabulary for weight in self.layer.parameters() if weight.requires_grad), default=0)
        return chunk_rows(self.vocabulary, device.type, trained_columns=columns)

    def _auxiliary(self, outputs: Any) -> torch.Tensor | None:
        """Load balancing of experts, where the model's config asks for it (output_router_logits)."""
        loss: torch.Tensor | None = getattr(outputs, "aux_loss", None)
        coefficient = getattr(self.config.get_text_config(), "router_aux_loss_coef", None)
        return None if loss is None or not coefficient else coefficient * loss


def _of_logits(logits: torch.Tensor, kept_BT: torch.Tensor, targets: Targets) -> tuple[torch.Tensor, torch.Tensor]:
    """The plain computation, of logits [N, V], or [B, T, V] where the model does not call its output layer."""
    losses_N = targets.losses(logits[kept_BT] if logits.dim() == 3 else logits)
    return losses_N.sum(), losses_N


def trained_parts(layer: nn.Module | None) -> list[nn.Parameter]:
    """What is trained of a layer and belongs to modules within it."""
    within = layer.children() if layer is not None else ()
    return [weight for module in within for weight in module.parameters() if weight.requires_grad]


def _is_shared_out(weight: nn.Parameter) -> bool:
    return hasattr(weight, "ds_shape")


def weight_by_row(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Of each row [B]: its labels that something predicts, or their weights together."""
    if "weights" in inputs:
        return inputs["weights"][:, 1:].sum(dim=1)
    return (inputs["labels"][:, 1:] != IGNORED).sum(dim=1)


def total_weight(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """What the loss of a batch is divided by."""
    return weight_by_row(inputs).sum()
