"""What came of a sweep, as rows of texts: what the terminal, the page and the file of comma-separated values show."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime import console

RECORDS = "sweep.json"

Record = dict[str, Any]
Sweep = dict[str, Any]

FIGURES: dict[str, Callable[[Record], str]] = {
    "steps": lambda record: _told(record["steps"], ","),
    "train loss": lambda record: _told(record["train_loss"], ".4f"),
    "validation loss": lambda record: _told(record["validation_loss"], ".4f"),
    "tok/s": lambda record: _told(record["tokens_per_s"], ","),
    "memory": lambda record: console.size(record["memory_bytes"]) if record["memory_bytes"] else "–",
    "smoke": lambda record: f"{record['passed']}/{record['asked']}" if record["asked"] else "–",
    "time": lambda record: console.clock(record["seconds"]) if record["seconds"] else "–",
}


def read_sweep(folder: Path) -> Sweep:
    """sweep.json; its trials have the best first."""
    sweep: Sweep = json.loads((folder / RECORDS).read_text(encoding="utf-8"))
    return sweep


def rows(sweep: Sweep) -> tuple[list[str], list[list[str]]]:
    """The table: its heads, and a row of texts for each trial. Of a failed one the last column says why."""
    shown = [name for name, figure in FIGURES.items() if any(figure(record) != "–" for record in sweep["trials"])]
    failed = any(record["state"] == "failed" for record in sweep["trials"])
    heads = ["trial", *sweep["parameters"], *shown, *(["fault"] if failed else [])]
    return heads, [
        [
            f"{record['number']}{' *' if record['label'] == sweep['best'] else ''}",
            *(written(record["values"][path]) for path in sweep["parameters"]),
            *(FIGURES[name](record) for name in shown),
            *([record["fault"] or ""] if failed else []),
        ]
        for record in sweep["trials"]
    ]


def written(value: object) -> str:
    """A value as a spec says it, on one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _told(number: float | None, form: str) -> str:
    return "–" if number is None else format(number, form)
