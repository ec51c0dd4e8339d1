"""Training that has gone wrong ends: what it would go on to learn is worth nothing.

Looked at before the optimizer's step: what is not finite never reaches the weights, and a step on a loss that jumps can be left out.
DeepSpeed takes its step within the backward pass; there, too, no checkpoint is written of it.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, TrainerCallback
from transformers.trainer_callback import TrainerControl, TrainerState

from runtime import console
from runtime.config import LossSpikeConfig
from runtime.data.dataset import rows_in
from runtime.faults import RunFault
from runtime.processes.together import Together
from runtime.training.saving import SavingTrainer

FIRST_KNOWN = 10  # losses before one can be called a spike, or as many as the window has
MOST_SHOWN = 3  # rows of a batch


class GuardedTrainer(SavingTrainer):
    """Trainer that knows an optimizer step before it is taken: `parts` are its micro batches so far, each the loss and its rows' ids;
    `norm` is that of the gradients, before clipping."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.parts: list[tuple[torch.Tensor, list[torch.Tensor]]] = []
        self.norm: float | None = None

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Trainer's, with the micro batch kept in `parts`."""
        rows = rows_in(inputs)
        self.parts.append((torch.zeros(()), rows))  # known while it runs: memory may not suffice for it
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        self.parts[-1] = (loss, rows)
        return loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        self.norm = None if norm is None else float(norm)
        return norm


class Guard(TrainerCallback):
    """Looks at loss, gradients and weights. `losses` are those of the steps before; `tell` shows a line."""

    def __init__(
        self,
        trainer: GuardedTrainer,
        together: Together,
        tokenizer: PreTrainedTokenizerBase,
        *,
        spike: LossSpikeConfig | None,
        losses: Iterable[float],
        tell: Callable[[str], None],
    ) -> None:
        self.trainer, self.together, self.tokenizer, self.spike, self.tell = trainer, together, tokenizer, spike, tell
        self.losses = deque(losses, maxlen=spike.window if spike else 1)
        self.times = 0.0  # the median, where the last step's loss is a spike

    def on_pre_optimizer_step(self, args: Any, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any) -> None:
        """Raises RunFault for what is not finite, and for a spike that stops training. All processes see the same loss."""
        step, parts = state.global_step + 1, self.trainer.parts
        loss = self.together.mean(sum(float(part) for part, _ in parts))
        if not math.isfinite(loss):
            hint = "lower train.learning_rate; with float16, take bfloat16; a row like no other can do it, too"
            raise RunFault("SG433", f"the loss is {loss} at step {step}{self._rows(parts)}", hint)
        if self.trainer.norm is not None and not math.isfinite(self.trainer.norm) and not args.fp16:  # float16 scales, and tries again
            hint = "lower train.learning_rate or train.max_grad_norm; the last checkpoint is from before"
            raise RunFault("SG457", f"the norm of the gradients is {self.trainer.norm} at step {step}", hint)
        self.times = self._times_the_median(loss)
        if self.times and self.spike and self._told(step, loss, self.spike) == "skip":
            model.zero_grad(set_to_none=True)  # an optimizer passes over what has no gradient
        parts.clear()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any) -> None:
        """Raises RunFault where a checkpoint would hold weights that are not finite."""
        self.trainer.parts.clear()
        if control.should_save and self.together.highest(int(not all_finite(model))):
            hint = "lower train.learning_rate; the last checkpoint is from before"
            raise RunFault("SG457", f"a weight is not finite after step {state.global_step}; no checkpoint is written of it", hint)

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Adds how many times the median a spike was."""
        if logs and "loss" in logs and self.times:
            logs["loss_spike"] = round(self.times, 2)

    def _times_the_median(self, loss: float) -> float:
        """The loss as a multiple of the median of the steps before if it is a spike; else 0. It is one of them from now on."""
        if self.spike is None:
            return 0.0
        known = list(self.losses)
        self.losses.append(loss)
        median = statistics.median(known) if len(known) >= min(self.spike.window, FIRST_KNOWN) else math.inf
        return loss / median if loss > self.spike.factor * median > 0 else 0.0

    def _told(self, step: int, loss: float, spike: LossSpikeConfig) -> str:
        what = f"loss {loss:.3g} is {self.times:.1f} times the median of the last {min(len(self.losses), spike.window)} steps"
        if spike.action == "stop":
            hint = "train.loss_spike.action: skip leaves such steps out, a lower train.learning_rate makes them rare"
            raise RunFault("SG454", f"step {step}: {what}{self._rows(self.trainer.parts)}", hint)
        skipped = "; the step is counted, and not taken" if spike.action == "skip" else ""
        self.tell(f"step {step}  spike: {what}{skipped}")
        return spike.action

    def _rows(self, parts: list[tuple[torch.Tensor, list[torch.Tensor]]]) -> str:
        """How the rows begin that are to blame: those of micro batches here whose loss is not finite, else of the largest."""
        losses = [float(loss) for loss, _ in parts]
        broken = [rows for loss, (_, rows) in zip(losses, parts, strict=True) if not math.isfinite(loss)]
        if not parts:
            return ""
        rows = broken[0] if broken else parts[losses.index(max(losses))][1]
        begins = (console.one_line(self.tokenizer.decode(ids_T[:40]), 60) for ids_T in rows[:MOST_SHOWN])
        return f"; its batch [{len(rows)}, {max(map(len, rows))}] has the rows " + ", ".join(f"'{text}'" for text in begins)


def all_finite(model: torch.nn.Module) -> bool:
    """Whether all trained weights are numbers; under ZeRO-3 those that this process holds."""
    trained = (getattr(parameter, "ds_tensor", parameter) for parameter in model.parameters() if parameter.requires_grad)
    return all(bool(weights.isfinite().all()) for weights in trained)
