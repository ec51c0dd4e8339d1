"""Training that has gone wrong ends: what it would go on to learn is worth nothing."""

from __future__ import annotations

import math
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import TrainerControl, TrainerState

from runtime.faults import RunFault


class Guard(TrainerCallback):
    """Looks at the loss of every optimizer step."""

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Raises RunFault for a loss that is not finite."""
        if logs and "loss" in logs and not math.isfinite(logs["loss"]):
            hint = "lower train.learning_rate; with float16, take bfloat16"
            raise RunFault("SG433", f"the loss is {logs['loss']} at step {state.global_step}", hint)
