"""The figures of a training run, line by line: metrics.jsonl and validation.jsonl in the stage's folder."""

from __future__ import annotations

import json
import resource
from dataclasses import dataclass
from pathlib import Path

import torch

METRICS = "metrics.jsonl"
VALIDATION = "validation.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One optimizer step. `tokens` are real ones, over all processes; `seconds` are of this step."""

    step: int
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    seconds: float


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
