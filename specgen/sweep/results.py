"""What came of a trial: its figures, read from the JSON files of its run folder, and which trial is the best."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from specgen.runfolder import objects_in, read_run
from specgen.stages import TESTS
from specgen.sweep.space import Metric

LAST_PART = 0.1  # of the steps, over which the training loss is a mean: one step's is that of its few rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One trial that has ended. `key` is the hash of what it was made from; `fault` is why it failed.

    Losses are nats a token; `seconds` are of all stages together; `passed` of `asked` questions of the smoke test.
    """

    number: int
    label: str
    name: str
    values: dict[str, Any]
    key: str
    state: Literal["done", "failed"]
    fault: str | None = None
    steps: int | None = None
    train_loss: float | None = None
    validation_loss: float | None = None
    tokens_per_s: float | None = None
    memory_bytes: int | None = None
    passed: int | None = None
    asked: int | None = None
    seconds: float | None = None

    def score(self, metric: Metric) -> float | None:
        """What the metric says of it, lower is better; None where it has failed or has no such figure."""
        if self.state == "failed":
            return None
        if metric == "smoke":
            return -self.passed / self.asked if self.asked and self.passed is not None else None
        return _finite(self.validation_loss if metric == "validation_loss" else self.train_loss)


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def best_first(records: Iterable[Record], metric: Metric) -> list[Record]:
    """Records by the metric, then by their losses, then as they were run; failed ones last."""

    def order(record: Record) -> tuple[float, ...]:
        scores = [record.score(metric), record.score("validation_loss"), record.score("train_loss")]
        return (record.state == "failed", *(math.inf if score is None else score for score in scores), record.number)

    return sorted(records, key=order)


def best_of(records: Iterable[Record], metric: Metric) -> Record | None:
    """The best trial, None where none has the figure."""
    first = next(iter(best_first(records, metric)), None)
    return None if first is None or first.score(metric) is None else first


def figures_of(folder: Path, *, keeps_best: bool) -> dict[str, Any]:
    """The figures of a run that is done, by their names in Record. With `keeps_best` training ends with its best weights."""
    run = read_run(folder)
    train, transcript = run.summary("train"), run.summary("smoke").get("transcript") or []
    validation = [point["loss"] for point in run.validation]
    return {
        "steps": train.get("steps"),
        "train_loss": _last_loss(folder / "train" / "metrics.jsonl"),
        "validation_loss": (min(validation) if keeps_best else validation[-1]) if validation else None,
        "tokens_per_s": train.get("tokens_per_s"),
        "memory_bytes": train.get("peak_memory_bytes"),
        "passed": sum(not entry["problems"] for entry in transcript) if transcript else None,
        "asked": len(transcript) or None,
        "seconds": round(sum(record.get("seconds", 0) for record in run.stages.values()), 2),
    }


def _last_loss(metrics: Path) -> float | None:
    """The mean training loss of the last steps."""
    steps = objects_in(metrics)
    last = [step["loss"] for step in steps[-max(1, round(len(steps) * LAST_PART)) :]]
    return sum(last) / len(last) if last else None


def failed_only_its_tests(folder: Path, errors: str) -> bool:
    """Whether a run that ended with exit code 1 is a whole one whose model answered wrongly, or missed a threshold."""
    if "error SG" in errors or "Traceback" in errors:
        return False
    run = read_run(folder)
    return any(run.summary(stage).get("passed") is False for stage in TESTS)


def reason(errors: str, code: int) -> str:
    """Why a run failed, in a line: the runtime's own words, or the last that its process said."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    told = next((line for line in lines if line.startswith("error SG")), None)
    if told:
        return told.removeprefix("error ")
    if code < 0:
        return f"killed by signal {-code}" + (", as by the system when memory runs out" if code == -9 else "")
    return lines[-1] if lines else f"exit code {code}"
