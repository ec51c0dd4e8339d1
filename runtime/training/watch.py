"""What is looked after while training runs: bar, progress, metrics, previews."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback
from transformers.trainer_callback import TrainerControl, TrainerState

from runtime.config import Config
from runtime.console import TrainingBar
from runtime.processes.stopping import StopFlag
from runtime.progress import Pace, StageProgress
from runtime.training.metrics import METRICS, VALIDATION, Metric, Validation, add_line, peak_memory, step_memory, write_lines
from runtime.training.previews import Previews

if TYPE_CHECKING:
    from runtime.training.trainer import SpanTrainer


class Watch(TrainerCallback):
    """Bar, progress, metrics and previews. Every process has one; the first shows and writes."""

    def __init__(
        self,
        config: Config,
        trainer: SpanTrainer,
        bar: TrainingBar,
        out: Path,
        previews: Previews,
        stop: StopFlag,
        before: list[Metric],
        validation_before: list[Validation],
    ) -> None:
        self.config, self.trainer, self.bar, self.out, self.previews, self.stop = config, trainer, bar, out, previews, stop
        self.metrics = before
        self.validation = validation_before
        self.is_main = trainer.args.process_index == 0
        self.step_started = time.monotonic()
        self.pace = Pace()
        self.progress = StageProgress(out.parent, "train") if self.is_main else None

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Writes the figures and answers up to here anew, and asks for the first ones."""
        if self.is_main:
            write_lines(self.out / VALIDATION, self.validation)
            write_lines(self.out / METRICS, self.metrics)
        if state.global_step == 0:
            self.previews.begin()
        else:
            self.previews.go_on(state.global_step)
        self.tell(at_once=True, step=state.global_step, total=state.max_steps)
        self.pace.passed(state.global_step, time.monotonic())
        self.step_started = time.monotonic()

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Takes the loss of a step or of an evaluation; adds to `logs` what was counted beside it."""
        if logs and "eval_loss" in logs:
            point = Validation(step=state.global_step, loss=logs["eval_loss"])
            self.on_validation(point)
            logs["eval_perplexity"] = point.perplexity  # whoever logs after this gets the figures, too: trackers
        if logs and "loss" in logs:
            metric = self.metric_of(state.global_step, logs)
            self.on_metric(metric, state.max_steps)
            logs |= {name: getattr(metric, name) for name in ("tokens", "trained_tokens", "tokens_per_s", "memory_bytes")}

    def on_validation(self, point: Validation) -> None:
        """Keeps a point of the validation loss and tells it."""
        self.validation.append(point)
        if self.is_main:
            add_line(self.out / VALIDATION, point)
            self.bar.note("train", f"step {point.step}  validation loss {point.loss:.4f}  perplexity {point.perplexity:.4g}")
        self.step_started = time.monotonic()

    def metric_of(self, step: int, logs: dict[str, Any]) -> Metric:
        """The figures of the step that has just ended."""
        now = time.monotonic()
        tokens, trained_tokens = (int(count) for count in self.trainer.counts.tolist())
        return Metric(
            step=step,
            loss=logs["loss"],
            learning_rate=logs["learning_rate"],
            grad_norm=float(logs.get("grad_norm") or 0.0),
            tokens=tokens,
            trained_tokens=trained_tokens,
            seconds=round(now - self.step_started, 4),
            memory_bytes=step_memory(self.trainer.args.device),
            loss_spike=logs.get("loss_spike"),
        )

    def on_metric(self, metric: Metric, total: int) -> None:
        """Keeps the figures of a step and shows them."""
        self.metrics.append(metric)
        self.step_started = time.monotonic()
        if self.is_main:
            add_line(self.out / METRICS, metric)
            self.pace.passed(metric.step, self.step_started)
            shown: dict[str, Any] = {"loss": metric.loss, "learning_rate": metric.learning_rate, "memory_bytes": metric.memory_bytes}
            shown |= {"tokens_per_s": metric.tokens_per_s, "eta_s": self.pace.eta_s(total)}
            self.bar.update(metric.step, **shown)
            self.tell(step=metric.step, total=total, **shown)
        if self.previews.is_due(metric.step) and metric.step < total:
            self.previews.show(metric.step)
            self.step_started = time.monotonic()

    def tell(self, *, at_once: bool = False, **figures: Any) -> None:
        """To progress.json, for who looks from another terminal."""
        if self.progress is not None:
            self.progress.tell(at_once=at_once, **figures)

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The time of saving is not that of the next step."""
        self.step_started = time.monotonic()

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The last answers are those of the last weights, also where training ended early. With load_best_model_at_end the model that is
        kept may be an earlier one."""
        self.tell(at_once=True, step=state.global_step, eta_s=None)
        if not self.stop.agreed:
            self.previews.show(state.global_step)

    def summary(self, rows: int) -> dict[str, Any]:
        """Figures of the whole run, over all its parts if it was interrupted."""
        seconds = sum(metric.seconds for metric in self.metrics)
        tokens = sum(metric.tokens for metric in self.metrics)
        best = min(self.validation, key=lambda point: point.loss, default=None)
        return {
            "steps": self.metrics[-1].step if self.metrics else 0,
            "total_steps": self.config.train.total_steps,
            "rows": rows,
            "final_loss": self.metrics[-1].loss if self.metrics else None,
            "validation_loss": [(point.step, point.loss) for point in self.validation],
            "best_validation_loss": best.loss if best else None,
            "tokens": tokens,
            "trained_tokens": sum(metric.trained_tokens for metric in self.metrics),
            "tokens_per_s": round(tokens / seconds) if seconds else None,
            "seconds_in_steps": round(seconds, 2),
            "peak_memory_bytes": peak_memory(self.metrics, self.trainer.args.device),
            "world_size": self.trainer.args.world_size,
        }
