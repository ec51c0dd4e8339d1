"""What is looked after while training runs: bar, metrics, previews, and the wish to stop."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback
from transformers.trainer_callback import TrainerControl, TrainerState

from runtime.config import Config
from runtime.console import TrainingBar
from runtime.metrics import METRICS, VALIDATION, Metric, peak_memory
from runtime.previews import Previews
from runtime.stopping import StopFlag

if TYPE_CHECKING:
    from runtime.trainer import SpanTrainer


class Watch(TrainerCallback):
    """Bar, metrics, previews and the stop flag."""

    def __init__(
        self,
        config: Config,
        trainer: SpanTrainer,
        bar: TrainingBar,
        out: Path,
        previews: Previews,
        stop: StopFlag,
        before: list[Metric],
        validation_before: list[tuple[int, float]],
    ) -> None:
        self.config, self.trainer, self.bar, self.out, self.previews, self.stop = config, trainer, bar, out, previews, stop
        self.metrics = before
        self.validation = validation_before
        self.is_main = trainer.args.process_index == 0
        self.step_started = time.monotonic()
        self.tokens_before = 0

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.is_main:
            (self.out / VALIDATION).write_text("".join(json.dumps(point) + "\n" for point in self.validation))
            (self.out / METRICS).write_text("".join(json.dumps(asdict(metric)) + "\n" for metric in self.metrics))
        if state.global_step == 0:
            self.previews.begin()
        self.step_started = time.monotonic()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.stop.requested:
            control.should_save = control.should_training_stop = True

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if not logs:
            return
        if "eval_loss" in logs:
            self.validation.append((state.global_step, logs["eval_loss"]))
            if self.is_main:
                with (self.out / VALIDATION).open("a") as stream:
                    stream.write(json.dumps(self.validation[-1]) + "\n")
                self.bar.note("train", f"step {state.global_step}  validation loss {logs['eval_loss']:.4f}")
        if "loss" not in logs:
            return
        now = time.monotonic()
        tokens = self.trainer.tokens_seen - self.tokens_before
        metric = Metric(
            step=state.global_step,
            loss=logs["loss"],
            learning_rate=logs["learning_rate"],
            grad_norm=float(logs.get("grad_norm") or 0.0),
            tokens=tokens,
            seconds=round(now - self.step_started, 4),
        )
        self.step_started, self.tokens_before = now, self.trainer.tokens_seen
        self.metrics.append(metric)
        if self.is_main:
            with (self.out / METRICS).open("a") as stream:
                stream.write(json.dumps(asdict(metric)) + "\n")
            self.bar.update(
                metric.step,
                loss=metric.loss,
                learning_rate=metric.learning_rate,
                tokens_per_s=metric.tokens / max(metric.seconds, 1e-9),
                memory_gb=peak_memory() / 1e9,
            )
        if self.previews.is_due(metric.step, state.max_steps):
            self.previews.show(metric.step)
            self.step_started = time.monotonic()

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.step_started = time.monotonic()

    def summary(self, rows: int) -> dict[str, Any]:
        """Figures of the whole run, over all its parts if it was interrupted."""
        seconds = sum(metric.seconds for metric in self.metrics)
        tokens = sum(metric.tokens for metric in self.metrics)
        return {
            "steps": self.metrics[-1].step if self.metrics else 0,
            "rows": rows,
            "final_loss": self.metrics[-1].loss if self.metrics else None,
            "validation_loss": self.validation,
            "tokens": tokens,
            "tokens_per_s": round(tokens / seconds) if seconds else None,
            "seconds_in_steps": round(seconds, 2),
            "peak_memory_bytes": peak_memory(),
            "world_size": self.trainer.args.world_size,
        }
