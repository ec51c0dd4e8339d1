"""transformers' Trainer, with our loss and our order of rows."""

from __future__ import annotations

from typing import Any

import torch

from runtime.isolation import prove_apart
from runtime.loss import total_weight, trained_positions_loss
from runtime.sampling import ByLength
from runtime.saving import SavingTrainer


class SpanTrainer(SavingTrainer):
    """Trainer with the loss over trained positions, normalised by their number, or by their weights together, over the whole
    optimizer step.

    With `by_length` rows of like length are in a batch: the training data are Rows then, not Packs. With Packs,
    `packed_difference` tells how well the model keeps rows apart (isolation.py); None if nothing was packed.
    """

    loss_is_scaled_for_ga = True

    def __init__(self, *, by_length: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.by_length = by_length
        self.packed_difference: float | None = None
        self.model_accepts_loss_kwargs = True  # makes Trainer count the labels of all micro batches and processes
        self.tokens_seen = 0

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler[int] | None:
        if not self.by_length:
            sampler: torch.utils.data.Sampler[int] | None = super()._get_train_sampler(train_dataset)
            return sampler
        batch_size = self._train_batch_size * self.args.gradient_accumulation_steps
        return ByLength(self.train_dataset.lengths, batch_size, seed=self.args.seed)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor | int | None:
        """What the summed losses of a whole optimizer step are divided by; Trainer's own counts labels."""
        if not batch_samples or "weights" not in batch_samples[0]:
            count: torch.Tensor | int | None = super()._get_num_items_in_batch(batch_samples, device)
            return count
        total = torch.stack([total_weight(batch) for batch in batch_samples]).sum().to(device)
        return self.accelerator.gather(total).sum() if self.args.world_size > 1 else total

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor | tuple[torch.Tensor, dict[str, torch.Tensor]]:
        plain = self.accelerator.unwrap_model(self.model)
        if "position_ids" in inputs and self.packed_difference is None:
            self.packed_difference = prove_apart(model, plain.config._attn_implementation)
        output_layer = plain.get_output_embeddings()
        summed = trained_positions_loss(model, output_layer, inputs)
        if num_items_in_batch is None:
            total = total_weight(inputs)
            loss = summed / torch.where(total > 0, total, 1)
        else:
            # gradients are averaged over processes, and the count is over all of them
            loss = summed / num_items_in_batch * self.accelerator.num_processes
            self.tokens_seen += int(inputs["tokens"].sum()) if model.training else 0
        return (loss, {"loss": loss}) if return_outputs else loss
