"""The order of training rows with rows of like length in a batch, so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from transformers.trainer_pt_utils import get_length_grouped_indices


class ByLength(torch.utils.data.Sampler[int]):
    """transformers' order by length (5.23): shuffled, then sorted within every 50 batches; the longest row comes first.

    Its own sampler takes PyTorch's state as it happens to be; here seed and epoch alone decide, so that every process and a
    run that goes on see the same order.
    """

    def __init__(self, lengths: list[int], batch_size: int, *, seed: int) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each pass over the rows."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        chance = torch.Generator().manual_seed(self.seed + self.epoch)
        return iter(get_length_grouped_indices(self.lengths, self.batch_size, generator=chance))
