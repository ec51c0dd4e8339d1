"""specgen runs: what runs have come to, side by side."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from specgen.commands.columns import HEADS
from specgen.runfolder import Run, read_run, runs_below
from specgen.sizes import size

Cell = str | int | float | None
Row = dict[str, Cell]

SHOWN: dict[str, Callable[[Any], str]] = {
    "when": lambda seconds: f"{datetime.fromtimestamp(seconds, tz=timezone.utc).astimezone():%Y-%m-%d %H:%M}",
    "rows": "{:,}".format,
    "steps": "{:,}".format,
    "loss": "{:.4f}".format,
    "validation": "{:.4f}".format,
    "speed": "{:,}".format,
    "memory": size,
}


def table_of(runs_dir: Path, *, sort: str, differences: bool) -> list[Row]:
    """A row for each run below a folder, the newest first, or by another column, the smallest first. With `differences` the
    settings that are not the same in all of them are columns, too, by their place in config.yaml."""
    runs = [read_run(folder) for folder in runs_below(runs_dir)]
    rows = [_row(run, runs_dir) for run in runs]
    if differences:
        rows = [row | different for row, different in zip(rows, _differences([run.config for run in runs]), strict=True)]
    rows.sort(key=lambda row: str(row["name"]))
    return sorted(rows, key=lambda row: _order(row[sort], falling=sort == "when"))


def _order(cell: Cell, *, falling: bool) -> tuple[bool, float, str]:
    """What is not there comes last, whichever way the numbers go."""
    number = cell if isinstance(cell, int | float) else 0.0
    return (cell is None, -number if falling else number, str(cell))


def _row(run: Run, runs_dir: Path) -> Row:
    data, train, smoke = (run.summary(stage) for stage in ("data", "train", "smoke"))
    best = run.best_validation
    transcript = smoke.get("transcript")
    return {
        "name": str(run.folder.relative_to(runs_dir)),
        "state": run.state,
        "when": run.progress.get("started"),
        "base": _base(run.config),
        "method": _method(run.config),
        "rows": data.get("rows"),
        "steps": train.get("steps", run.metric.get("step")),
        "loss": train.get("final_loss", run.metric.get("loss")),
        "validation": best["loss"] if best else None,
        "speed": train.get("tokens_per_s"),
        "memory": train.get("peak_memory_bytes"),
        "smoke": f"{sum(not entry['problems'] for entry in transcript)}/{len(transcript)}" if transcript else None,
    }


def _base(config: dict[str, Any]) -> str | None:
    """The base model as a spec names it, without the folders that lead to it."""
    base: dict[str, dict[str, Any]] = config.get("model", {}).get("base", {})
    for where, key in (("hub", "repo"), ("package", "path"), ("local", "path")):
        if where in base:
            path = str(base[where][key])
            return path if where == "hub" else Path(path).name
    return None


def _method(config: dict[str, Any]) -> str | None:
    """`lora r16`, `qlora r16` for a quantized base, `dora r8`; `full` where there is no adapter."""
    if not config:
        return None
    lora = (config["adapter"] or {}).get("lora")
    if lora is None:
        return "full"
    kind = "dora" if lora["use_dora"] else "lora"
    return f"{'q' if config['model']['quantization'] else 'rs' if lora['use_rslora'] else ''}{kind} r{lora['r']}"


def _differences(configs: list[dict[str, Any]]) -> list[Row]:
    """For each config the settings in which not all are equal. Names tell nothing here, and descriptions are long."""
    flat = [dict(_flat(config)) for config in configs]
    paths = list(dict.fromkeys(path for one in flat for path in one if path not in ("name", "description")))
    known = [one for one in flat if one]
    differing = [path for path in paths if any(one.get(path) != known[0].get(path) for one in known)]
    return [{path: one.get(path) for path in differing} for one in flat]


def _flat(value: Any, path: str = "") -> list[tuple[str, Cell]]:
    if isinstance(value, dict):
        return [pair for key, item in value.items() for pair in _flat(item, f"{path}.{key}" if path else key)]
    if isinstance(value, list):
        return [(path, json.dumps(value, ensure_ascii=False))]
    return [(path, value)]


def as_table(rows: list[Row]) -> str:
    """The rows in columns; a column that is empty in all of them is left out."""
    columns = [column for column in rows[0] if any(row[column] is not None for row in rows)]
    heads = [HEADS.get(column, column) for column in columns]
    cells = [heads, *([_shown(column, row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    sides = [">" if _is_number(column, rows) else "<" for column in columns]
    return "\n".join("  ".join(map("{:{}{}}".format, line, sides, widths)).rstrip() for line in cells)


def _is_number(column: str, rows: list[Row]) -> bool:
    return column != "when" and all(isinstance(row[column], int | float | None) for row in rows)


def _shown(column: str, cell: Cell) -> str:
    if cell is None:
        return "–" if column in HEADS else "null"
    return SHOWN[column](cell) if column in SHOWN else str(cell)


def as_json(rows: list[Row]) -> str:
    """The rows for other programs; times are seconds since 1970, memory is in bytes."""
    return json.dumps(rows, ensure_ascii=False, indent=2)


def as_csv(rows: list[Row]) -> str:
    """The same as comma-separated values, with a head."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
