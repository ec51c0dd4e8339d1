"""What training processes settle among themselves, beside the gradients: over gloo, so that a GPU is not waited for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

PATIENCE = timedelta(days=1)  # for a full-size checkpoint on a slow disk


class Together:
    """Small questions that all processes answer at the same place. In one process the answer is its own.

    The process group must have been started. A process that does not answer within `timeout_s` ends all; where one may take
    long, as in writing a checkpoint, the others come to `wait`.
    """

    def __init__(self, timeout_s: float) -> None:
        self.alone = not dist.is_initialized() or dist.get_world_size() == 1
        self.quick: Any = None
        self.patient: Any = None
        if not self.alone:
            self.quick = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_s))
            self.patient = dist.new_group(backend="gloo", timeout=PATIENCE)

    def highest(self, number: int) -> int:
        """The largest of all processes' numbers."""
        return int(self._reduced(number, dist.ReduceOp.MAX))

    def mean(self, number: float) -> float:
        """The mean of all processes' numbers; not finite if one is not."""
        return self._reduced(number, dist.ReduceOp.SUM) / (1 if self.alone else dist.get_world_size())

    def wait(self) -> None:
        """Returns when all processes are here, however long one of them takes: one that dies ends the waiting."""
        if not self.alone:
            dist.barrier(group=self.patient)

    def _reduced(self, number: float, how: Any) -> float:
        if self.alone:
            return number
        tensor = torch.tensor([number], dtype=torch.float64)
        dist.all_reduce(tensor, op=how, group=self.quick)
        return float(tensor.item())
