"""transformers' Trainer (5.23) walks through all modules of the model several times a step; what does not change is kept here."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Trainer


class LeanTrainer(Trainer):
    """Trainer that counts the model's parameters once, and looks for those that are trained once."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._operations_per_token: int | None = None
        self._trained: list[torch.nn.Parameter] | None = None

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Of a forward and a backward pass, six for each parameter and token: as Trainer counts them."""
        if self._operations_per_token is None:
            self._operations_per_token = super().floating_point_ops({"input_ids": torch.empty(1)})
        return self._operations_per_token * int(inputs["input_ids"].numel())

    def _clip_grad_norm(self, model: Any) -> Any:
        if self._trained is None:
            self._trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return self.accelerator.clip_grad_norm_(self._trained, self.args.max_grad_norm)
