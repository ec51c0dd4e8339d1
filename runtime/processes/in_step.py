"""Keeps training processes in step: each tells where it is, and they agree on whether to stop."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import TrainerControl, TrainerState

from runtime.processes.rank import Pulse
from runtime.processes.stopping import StopFlag
from runtime.processes.together import Together


class InStep(TrainerCallback):
    """Tells after each optimizer step whether training ends, by a checkpoint."""

    def __init__(self, together: Together, stop: StopFlag, pulse: Pulse) -> None:
        self.together, self.stop, self.pulse = together, stop, pulse

    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Tells which step runs."""
        self.pulse.step, self.pulse.doing = state.global_step + 1, "forward and backward"

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Agrees with the others whether this step was the last."""
        if self.stop.agree(self.together):
            control.should_save = control.should_training_stop = True
        self.pulse.doing = "saving" if control.should_save else "evaluating" if control.should_evaluate else "after the step"

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Tells that the checkpoint is written."""
        self.pulse.doing = "after the step"
