"""The loss over trained positions only: hidden states of all other positions never reach the output layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from runtime.data.dataset import IGNORED

MODEL_INPUTS = ("input_ids", "attention_mask", "position_ids")

# B batch, T tokens, N trained positions, D model, V vocabulary


def trained_positions_loss(model: nn.Module, output_layer: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Summed cross entropy (float32, nats) of the labelled positions, each times its weight where `inputs` have `weights` [B, T].

    `model` may be wrapped (DistributedDataParallel, DeepSpeed); its output layer selects rows by a hook on its input, so
    that any architecture with a linear output works unchanged. `inputs` holds input_ids, labels, and attention_mask (rows)
    or position_ids (packs: data/packing.py), int64 [B, T].
    """
    labels_BT = inputs["labels"]
    targets_BT = functional.pad(labels_BT, (0, 1), value=IGNORED)[:, 1:]
    kept_BT = targets_BT != IGNORED

    def select(_module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        (hidden_BTD,) = arguments
        return (hidden_BTD[kept_BT],)

    hook = output_layer.register_forward_pre_hook(select)
    try:
        outputs = model(**{name: inputs[name] for name in MODEL_INPUTS if name in inputs}, use_cache=False)
    finally:
        hook.remove()
    logits_NV = outputs.logits.float()
    if "weights" not in inputs:
        return functional.cross_entropy(logits_NV, targets_BT[kept_BT], reduction="sum")
    weights_N = functional.pad(inputs["weights"], (0, 1))[:, 1:][kept_BT]
    return (functional.cross_entropy(logits_NV, targets_BT[kept_BT], reduction="none") * weights_N).sum()


def total_weight(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """What the loss of a batch is divided by: its labels that something predicts, or their weights together."""
    if "weights" in inputs:
        return inputs["weights"][:, 1:].sum()
    return (inputs["labels"][:, 1:] != IGNORED).sum()
