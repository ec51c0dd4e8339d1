"""transformers' Trainer, with our loss and our order of rows."""

from __future__ import annotations

from typing import Any

import torch
from transformers import EvalPrediction

from runtime import console
from runtime.data.dataset import IGNORED
from runtime.training.guard import GuardedTrainer
from runtime.training.isolation import prove_apart
from runtime.training.loss import BatchLoss, OutputLoss, total_weight, weight_by_row
from runtime.training.sampling import ByLength


class SpanTrainer(GuardedTrainer):
    """Trainer with the loss over trained positions, normalised by their number, or by their weights together, over the whole
    optimizer step: the same step however its rows are cut into micro batches and processes.

    With `by_length` rows of like length are in a batch: the training data are Rows then, not Packs. With Packs,
    `packed_difference` tells how well the model keeps rows apart (isolation.py); None if nothing was packed. `output_loss` is
    there from the first batch on. `counts`: tokens, and those with a loss, of the last optimizer step over all processes; they stay on the
    device until someone asks.
    """

    loss_is_scaled_for_ga = True

    def __init__(self, *, by_length: bool = False, **options: Any) -> None:
        super().__init__(**options, compute_metrics=mean_loss)
        self.by_length = by_length
        self.packed_difference: float | None = None
        self.output_loss: OutputLoss | None = None
        self.model_accepts_loss_kwargs = True  # makes Trainer count the labels of all micro batches and processes
        self.counts = torch.zeros(2)

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler[int] | None:
        if not self.by_length:
            sampler: torch.utils.data.Sampler[int] | None = super()._get_train_sampler(train_dataset)
            return sampler
        # of all processes: the order is the same for any number of them
        batch_size = self._train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return ByLength(self.train_dataset.lengths, batch_size, seed=self.args.seed)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor | int | None:
        """What the summed losses of a whole optimizer step are divided by; Trainer's own counts labels, not weights."""
        if not batch_samples:
            return None
        self._leave_out_repeated(batch_samples[-1])
        weights = [torch.stack([total_weight(batch), batch["tokens"].sum(), trained_tokens(batch)]) for batch in batch_samples]
        total, *counts = self.accelerator.reduce(torch.stack(weights).sum(dim=0).double().to(device))
        self.counts = torch.stack(counts)
        return torch.where(total > 0, total, 1).float()  # a step without any trained token is one of zero gradients

    def _leave_out_repeated(self, last: dict[str, torch.Tensor]) -> None:
        """At the end of an epoch accelerate gives the processes as many rows each by repeating the first ones; they count nothing."""
        state, labels_BT, tokens = self.accelerator.gradient_state, last["labels"], last["tokens"]
        if self.args.world_size == 1 or not state.end_of_dataloader or state.remainder <= 0:
            return
        places = torch.arange(len(tokens)) + self.accelerator.process_index * self._train_batch_size
        repeated = places.to(labels_BT.device) >= state.remainder
        # packs in a line are one row of the batch: then it is tokens that are left out
        here = repeated if len(labels_BT) == len(tokens) else repeated.repeat_interleave(tokens).unsqueeze(0)
        labels_BT[here] = IGNORED
        if "weights" in last:
            last["weights"][here] = 0
        tokens[repeated] = 0

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor | tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of a micro batch as its part of the optimizer step's. What a mixture of experts adds is the mean over micro
        batches and processes; transformers' own sums it over micro batches, so that it would grow with their number."""
        batch = self._batch_loss(model, inputs)
        # gradients are averaged over processes, and the count is over all of them
        loss = batch.summed / num_items_in_batch * self.accelerator.num_processes
        if batch.auxiliary is not None:
            loss = loss + batch.auxiliary / self.current_gradient_accumulation_steps
        return (loss, {"loss": loss}) if return_outputs else loss

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[None, torch.Tensor, torch.Tensor]:
        """Summed losses and weights of the rows [B] in the place of logits and labels: Trainer would take the mean over batches."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad():
            batch = self._batch_loss(model, inputs)
        return None, batch.by_row(), weight_by_row(inputs).float()

    def _batch_loss(self, model: Any, inputs: dict[str, torch.Tensor]) -> BatchLoss:
        if "position_ids" in inputs and self.packed_difference is None:
            self.packed_difference = prove_apart(model, self.accelerator.unwrap_model(self.model).config._attn_implementation)
        if self.output_loss is not None:
            return self.output_loss(model, inputs)
        plain = self.accelerator.unwrap_model(self.model)
        self.output_loss = OutputLoss(plain, label_smoothing=self.args.label_smoothing_factor, by_liger=self.args.use_liger_kernel)
        loss = self.output_loss(model, inputs)
        if self.output_loss.whole_because and self.is_world_process_zero():
            console.say("train", f"the output layer gets all trained positions at once: {self.output_loss.whole_because}")
        return loss


def trained_tokens(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The number of tokens of a batch that have a loss, whatever they weigh: int64."""
    return (batch["labels"][:, 1:] != IGNORED).sum()


def mean_loss(evaluated: EvalPrediction) -> dict[str, float]:
    """The mean over all trained tokens of all rows: predictions are summed losses [rows], label_ids weights [rows]."""
    return {"loss": float(evaluated.predictions.sum() / max(evaluated.label_ids.sum(), 1e-9))}
