"""sweep.html: the trials in a table, the metric against each parameter, and the losses of all trials over their steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.reports.plots import as_svg, style
from runtime.sweep.table import Record, Sweep, rows, written

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METRICS, VALIDATION = "metrics.jsonl", "validation.jsonl"  # runtime.training.metrics names them, too, and loads PyTorch
WIDE = 10  # a range of so many times its lowest value is drawn on a logarithmic scale
BEST, OTHER = "#b3541e", "#2457a6"


def page(sweep: Sweep, folder: Path) -> str:
    """The page; needs nothing beside it. Links lead to the reports of the trials."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parents[1] / "templates", encoding="utf-8"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    heads, table = rows(sweep)
    reports = [f"{record['name']}/report/report.html" for record in sweep["trials"]]
    return environment.get_template("sweep.html.j2").render(
        sweep=sweep,
        heads=heads,
        table=list(zip(sweep["trials"], table, [path if (folder / path).is_file() else None for path in reports], strict=True)),
        parameters_plot=parameters_plot(sweep),
        losses_plot=losses_plot(sweep, folder),
    )


def parameters_plot(sweep: Sweep) -> str | None:
    """The metric against each parameter, as SVG text; None where no trial has the metric."""
    found = [record for record in sweep["trials"] if record["score"] is not None]
    if not found:
        return None
    paths = sweep["parameters"]
    columns = min(3, len(paths))
    lines = -(-len(paths) // columns)
    with style() as pyplot:
        figure, grid = pyplot.subplots(
            lines, columns, figsize=(3.4 * columns, 2.8 * lines), layout="constrained", sharey=True, squeeze=False
        )
        for axes, path in zip(grid.flat, paths, strict=False):
            _draw_parameter(axes, path, found, sweep["best"])
        for axes in grid.flat[len(paths) :]:
            axes.set_visible(False)
        for row in grid:
            row[0].set_ylabel("smoke test, share passed" if sweep["metric"] == "smoke" else sweep["metric"].replace("_", " ") + ", nats")
        return as_svg(figure)


def _draw_parameter(axes: Axes, path: str, found: list[Record], best: str | None) -> None:
    values = [record["values"][path] for record in found]
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    names = list(dict.fromkeys(map(written, values)))
    places = values if numeric else [names.index(written(value)) for value in values]
    colours = [BEST if record["label"] == best else OTHER for record in found]
    axes.scatter(places, [record["score"] for record in found], c=colours, s=28, alpha=0.85, linewidths=0)
    if not numeric:
        axes.set_xticks(range(len(names)), [name if len(name) <= 18 else name[:17] + "…" for name in names])
        axes.margins(x=0.2)
    elif min(values) > 0 and max(values) >= WIDE * min(values):
        axes.set_xscale("log")
    axes.set_xlabel(path)
    axes.spines[["top", "right"]].set_visible(False)


def losses_plot(sweep: Sweep, folder: Path) -> str | None:
    """Losses over steps of every trial, the best in front, as SVG text; None where there are none."""
    curves = [(record, points) for record in sweep["trials"] if (points := _curve(folder / record["name"] / "train"))]
    if not curves:
        return None
    with style() as pyplot:
        figure, axes = pyplot.subplots(figsize=(7.5, 3.2), layout="constrained")
        for record, points in reversed(curves):
            is_best = record["label"] == sweep["best"]
            label = "the best trial" if is_best else None
            axes.plot(*zip(*points, strict=True), color=BEST if is_best else OTHER, alpha=1 if is_best else 0.35, label=label)
        axes.set(xlabel="optimizer step", ylabel="loss, nats a token", ylim=(0, None))
        axes.spines[["top", "right"]].set_visible(False)
        if sweep["best"]:
            axes.legend(frameon=False)
        return as_svg(figure)


def _curve(train: Path) -> list[tuple[int, float]]:
    """Validation losses where there are two or more, else training losses, each with its step."""
    validation, training = _lines(train / VALIDATION), _lines(train / METRICS)
    return validation if len(validation) > 1 else training


def _lines(file: Path) -> list[tuple[int, float]]:
    points = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    return [(point["step"], point["loss"]) for point in points]
