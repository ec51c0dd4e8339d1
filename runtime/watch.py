"""What is looked after while training runs: bar, metrics, previews, checkpoint seals, and Ctrl-C."""

from __future__ import annotations

import json
import math
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback
from transformers.trainer_callback import TrainerControl, TrainerState

from runtime import checkpoints, console
from runtime.config import Config, PreviewConfig
from runtime.console import TrainingBar
from runtime.faults import RunFault
from runtime.generate import Generator
from runtime.model import torch_dtype
from runtime.trainable import autocasts

if TYPE_CHECKING:
    from runtime.train import SpanTrainer

METRICS = "metrics.jsonl"
VALIDATION = "validation.jsonl"
PREVIEWS = "previews.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One optimizer step. `tokens` are real ones, over all processes; `seconds` are of this step."""

    step: int
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    seconds: float


class StopFlag:
    """Set by the first Ctrl-C; a second one ends the process at once."""

    requested = False


@contextmanager
def stop_on_interrupt(world_size: int) -> Iterator[StopFlag]:
    """Within this, Ctrl-C asks training to stop after the step that runs. Several processes could disagree on which step
    that is: they stop at once, and go on from their last checkpoint."""
    stop = StopFlag()
    if world_size > 1:
        yield stop
        return

    def request(_signal: int, _frame: object) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True

    before = signal.signal(signal.SIGINT, request)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


class Watch(TrainerCallback):
    """Bar, metrics, previews, checkpoint seals and the stop flag."""

    def __init__(
        self,
        config: Config,
        trainer: SpanTrainer,
        bar: TrainingBar,
        out: Path,
        generator: Generator,
        stop: StopFlag,
        before: list[Metric],
        validation_before: list[tuple[int, float]],
    ) -> None:
        self.config, self.trainer, self.bar, self.out, self.generator, self.stop = config, trainer, bar, out, generator, stop
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
            if self.is_main:
                (self.out / PREVIEWS).unlink(missing_ok=True)
            self.preview(0)
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
        if not math.isfinite(logs["loss"]):
            hint = "lower train.learning_rate; with float16, take bfloat16"
            raise RunFault("SG433", f"the loss is {logs['loss']} at step {state.global_step}", hint)
        now = time.monotonic()
        tokens = (self.trainer.tokens_seen - self.tokens_before) * args.world_size
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
        preview = self.config.train.preview
        if preview and (metric.step % preview.every == 0 or metric.step == state.max_steps):
            self.preview(metric.step)

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.trainer.accelerator.wait_for_everyone()
        if self.is_main:
            checkpoints.seal(self.out / f"checkpoint-{state.global_step}")
            checkpoints.prune(self.out, self.config.train.save_total_limit)
        self.step_started = time.monotonic()

    def preview(self, step: int) -> None:
        """Sample answers by the first process. Random states are as before afterwards."""
        preview = self.config.train.preview
        if preview is None:
            return
        with self.whole_model() as model:
            if self.is_main:
                was_training = model.training
                model.eval()
                dtype = torch_dtype(self.config.model.dtype)
                autocast = torch.autocast(model.device.type, dtype=dtype, enabled=autocasts(self.config))
                with torch.random.fork_rng(devices=range(torch.cuda.device_count())), autocast:
                    self.show_answers(model, preview, step)
                model.train(was_training)
        self.step_started = time.monotonic()

    @contextmanager
    def whole_model(self) -> Iterator[Any]:
        """The model as one process can use it; ZeRO-3 gathers its weights for that, and every process takes part."""
        if self.config.distributed.zero_stage == 3:
            from deepspeed.runtime.zero import unwrap_model_for_generation

            with unwrap_model_for_generation(self.trainer.model_wrapped) as engine:
                yield engine.module
        else:
            yield self.trainer.accelerator.unwrap_model(self.trainer.model_wrapped)

    def show_answers(self, model: Any, preview: PreviewConfig, step: int) -> None:
        """Asks every prompt; writes the answers down and shows them above the bar."""
        with (self.out / PREVIEWS).open("a", encoding="utf-8") as stream:
            for prompt in preview.prompts:
                asked = [{"role": "user", "content": prompt}]
                answer = self.generator.answer(model, asked, max_new_tokens=preview.max_new_tokens).text
                stream.write(json.dumps({"step": step, "prompt": prompt, "answer": answer}, ensure_ascii=False) + "\n")
                self.bar.note("", f"step {step:<4} {console.one_line(prompt, 40)} → {console.one_line(answer, 80)}")

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


def previous_metrics(out: Path, resume: Path | None) -> list[Metric]:
    """Metrics up to the checkpoint that training goes on from."""
    if resume is None or not (out / METRICS).exists():
        return []
    last = int(resume.name.rpartition("-")[2])
    metrics = [Metric(**json.loads(line)) for line in (out / METRICS).read_text().splitlines() if line.endswith("}")]
    return [metric for metric in metrics if metric.step <= last]


def previous_validation(out: Path, resume: Path | None) -> list[tuple[int, float]]:
    """Validation losses up to the checkpoint that training goes on from."""
    if resume is None or not (out / VALIDATION).exists():
        return []
    last = int(resume.name.rpartition("-")[2])
    points = [json.loads(line) for line in (out / VALIDATION).read_text().splitlines() if line.endswith("]")]
    return [(step, loss) for step, loss in points if step <= last]


def peak_memory() -> int:
    """Highest memory so far in bytes: of the GPU if there is one, else of this process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
