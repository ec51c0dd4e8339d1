"""Early stopping: training ends where the validation loss no longer falls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import TrainerControl, TrainerState

from runtime.config import EarlyStoppingConfig
from runtime.console import TrainingBar
from runtime.training.metrics import Validation


class EarlyStopping(TrainerCallback):
    """Looks at all evaluations so far, which outlive an interruption (validation.jsonl): transformers' own callback keeps a count,
    and takes the best loss by less than the threshold as the new mark, so that a slow fall never counts."""

    def __init__(self, config: EarlyStoppingConfig, validation: Sequence[Validation], bar: TrainingBar | None) -> None:
        self.config, self.validation, self.bar = config, validation, bar

    def on_evaluate(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Stops training where the validation loss has no longer fallen."""
        if not is_over(self.config, self.validation):
            return
        control.should_training_stop = True
        if self.bar is not None:
            best = min(self.validation, key=lambda point: point.loss)
            waited = without_gain(self.validation, self.config.threshold)
            said = f"stops early at step {state.global_step} of {state.max_steps}: {waited} validations without a better loss"
            self.bar.note("train", f"{said}; the best was {best.loss:.4f} at step {best.step}")


def is_over(config: EarlyStoppingConfig, validation: Sequence[Validation]) -> bool:
    """Whether as many evaluations as there is patience for have brought nothing."""
    return without_gain(validation, config.threshold) >= config.patience


def without_gain(validation: Sequence[Validation], threshold: float) -> int:
    """The number of evaluations since the last whose loss was lower by more than `threshold` than the mark that it then became."""
    mark, waited = float("inf"), 0
    for point in validation:
        if point.loss < mark - threshold:
            mark, waited = point.loss, 0
        else:
            waited += 1
    return waited
