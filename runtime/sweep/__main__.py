"""python -m runtime.sweep FOLDER: what came of a sweep, as a table here and as sweep.html and trials.csv there."""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

from runtime.sweep.page import page
from runtime.sweep.table import RECORDS, Sweep, read_sweep, rows, written


def main() -> int:
    """The program: shows the table and writes it and the page. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m runtime.sweep", description="Shows what came of a sweep.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a folder that specgen sweep wrote, such as runs/NAME-sweep")
    folder = parser.parse_args().folder
    sweep = read_sweep(folder)
    show(sweep)
    write_csv(sweep, folder / "trials.csv")
    (folder / "sweep.html").write_text(page(sweep, folder), encoding="utf-8")
    print(f"\nwrote {folder / 'sweep.html'}, trials.csv and {RECORDS}", flush=True)
    return 0


def show(sweep: Sweep) -> None:
    """The table on the terminal, or in plain columns where there is none."""
    heads, found = rows(sweep)
    print(f"sweep    {sweep['name']} · {sweep['method']} · {len(found)} trials by {sweep['metric'].replace('_', ' ')}, * the best\n")
    if not sys.stdout.isatty():
        widths = [max(map(len, column)) for column in zip(heads, *found, strict=True)]
        for line in (heads, *found):
            print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for head in heads:
        table.add_column(Text(head))
    for record, line in zip(sweep["trials"], found, strict=True):
        style = "bold green" if record["label"] == sweep["best"] else "red" if record["state"] == "failed" else ""
        table.add_row(*(Text(cell) for cell in line), style=style)
    Console().print(table)


def write_csv(sweep: Sweep, file: Path) -> None:
    """All trials with all figures as they are: losses in nats, bytes, seconds."""
    figures = ["steps", "train_loss", "validation_loss", "tokens_per_s", "memory_bytes", "passed", "asked", "seconds"]
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["number", "name", "state", *sweep["parameters"], *figures, "fault"])
        for record in sweep["trials"]:
            values = [written(record["values"][path]) for path in sweep["parameters"]]
            ends = [record["number"], record["name"], record["state"], *values, *(record[figure] for figure in figures), record["fault"]]
            writer.writerow(["" if cell is None else cell for cell in ends])


if __name__ == "__main__":
    from runtime.starting import in_utf8

    in_utf8("runtime.sweep")
    sys.exit(main())
