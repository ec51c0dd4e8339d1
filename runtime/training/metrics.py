"""The figures of a training run, line by line: metrics.jsonl and validation.jsonl in the stage's folder."""

from __future__ import annotations

import json
import math
import resource
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from runtime.training.checkpoints import step_of

METRICS = "metrics.jsonl"
VALIDATION = "validation.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One optimizer step. `tokens` are real ones and `trained_tokens` those with a loss, both over all processes; `seconds`
    are of this step alone. `memory_bytes`: of the first process; on a GPU the most that was allocated since the last step, else
    what is resident. `loss_spike`: the loss in medians of the steps before, where train.loss_spike calls it a spike."""

    step: int
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    trained_tokens: int
    seconds: float
    memory_bytes: int
    loss_spike: float | None = None

    @property
    def tokens_per_s(self) -> float:
        """Real tokens in a second of the step, over all processes."""
        return self.tokens / max(self.seconds, 1e-9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """One evaluation of the rows held out: the mean loss of a trained token, in nats."""

    step: int
    loss: float

    @property
    def perplexity(self) -> float:
        """e to the loss; infinite where that is past what a float holds."""
        try:
            return math.exp(self.loss)
        except OverflowError:
            return math.inf


def add_line(file: Path, point: Metric | Validation) -> None:
    """Writes one more line."""
    with file.open("a") as stream:
        stream.write(_line(point))


def write_lines(file: Path, points: Sequence[Metric | Validation]) -> None:
    """Writes the file anew, with these lines."""
    file.write_text("".join(map(_line, points)))


def _line(point: Metric | Validation) -> str:
    derived = {"perplexity": point.perplexity} if isinstance(point, Validation) else {}
    return json.dumps(asdict(point) | derived) + "\n"


def previous_metrics(out: Path, resume: Path | None) -> list[Metric]:
    """Metrics up to the checkpoint that training goes on from."""
    return [Metric(**line) for line in _previous(out / METRICS, resume)]


def previous_validation(out: Path, resume: Path | None) -> list[Validation]:
    """Evaluations up to the checkpoint that training goes on from."""
    return [Validation(step=line["step"], loss=line["loss"]) for line in _previous(out / VALIDATION, resume)]


def _previous(file: Path, resume: Path | None) -> list[dict[str, Any]]:
    if resume is None:
        return []
    last = step_of(resume)
    return [line for line in read_lines(file) if line["step"] <= last]


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The lines of such a file; one that was cut off while it was written, and a file that is not there, count as nothing."""
    if not file.exists():
        return []
    found = []
    for line in file.read_text(encoding="utf-8", errors="replace").split("\n"):
        with suppress(ValueError):
            found.append(json.loads(line))
    return [line for line in found if isinstance(line, dict)]


def step_memory(device: torch.device) -> int:
    """Bytes: the most that the GPU has held since this was asked last; without one, what this process holds now."""
    if device.type != "cuda":
        return int(psutil.Process().memory_info().rss)
    peak = int(torch.cuda.max_memory_allocated(device))
    torch.cuda.reset_peak_memory_stats(device)
    return peak


def peak_memory(metrics: Sequence[Metric], device: torch.device) -> int:
    """The most memory in bytes of a run: on a GPU of its steps, else of this process."""
    if device.type == "cuda":
        return max((metric.memory_bytes for metric in metrics), default=int(torch.cuda.max_memory_allocated(device)))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
