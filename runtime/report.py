"""report.html: one file with everything that one wants to look at after a run."""

from __future__ import annotations

import io
import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime import console, previews
from runtime.card import base_name, method
from runtime.config import Config, to_plain
from runtime.metrics import METRICS
from runtime.preview.page import rows_for_report
from runtime.stages import read_stage

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STAGES = ("data", "train", "convert", "merge", "smoke")


def report(config: Config, folder: Path, out: Path) -> dict[str, Any]:
    """Writes report.html; needs nothing beside it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    records = {name: read_stage(folder, name) for name in STAGES}
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates", encoding="utf-8"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(size=console.size, clock=console.clock)
    metrics = _lines(folder / "train" / METRICS)
    html = environment.get_template("report.html.j2").render(
        config=config,
        base=base_name(config.model.base),
        method=method(config.adapter),
        stages=records,
        data=records["data"]["summary"],
        train=records["train"]["summary"],
        merge=records["merge"]["summary"],
        smoke=records["smoke"]["summary"],
        previews=previews_by_prompt(_lines(folder / "train" / previews.FILE)),
        trained=rows_for_report(config),
        plot=loss_plot(metrics, records["train"]["summary"]["validation_loss"]),
        versions={name: value for record in records.values() for name, value in record["versions"].items()},
        machine=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        settings=json.dumps(to_plain(config), ensure_ascii=False, indent=2),
    )
    (out / "report.html").write_text(html, encoding="utf-8")
    console.say("report", str(folder / "report" / "report.html"))
    return {}


def previews_by_prompt(previews: list[dict[str, Any]]) -> dict[str, list[tuple[int, str]]]:
    """Prompt → its answers over time, as (step, answer); a step that was trained twice counts once, the later time."""
    by_prompt: dict[str, dict[int, str]] = {}
    for preview in previews:
        by_prompt.setdefault(preview["prompt"], {})[preview["step"]] = preview["answer"]
    return {prompt: sorted(answers.items()) for prompt, answers in by_prompt.items()}


def loss_plot(metrics: list[dict[str, Any]], validation: list[tuple[int, float]]) -> str:
    """Loss and learning rate over steps, as SVG text."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    with matplotlib.rc_context({"svg.hashsalt": "specgen", "svg.fonttype": "none", "font.size": 9}):
        figure, axes = pyplot.subplots(figsize=(7.5, 3), layout="constrained")
        _draw(axes, metrics, validation)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
    text = stream.getvalue()
    return text[text.index("<svg") :]


def _draw(axes: Axes, metrics: list[dict[str, Any]], validation: list[tuple[int, float]]) -> None:
    steps = [metric["step"] for metric in metrics]
    axes.plot(steps, [metric["loss"] for metric in metrics], color="#2457a6", label="training loss")
    if validation:
        axes.plot([step for step, _ in validation], [loss for _, loss in validation], "o-", color="#b3541e", label="validation loss")
    axes.set(xlabel="optimizer step", ylabel="loss, nats a token", ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    rate = axes.twinx()
    rate.plot(steps, [metric["learning_rate"] for metric in metrics], color="#999999", linewidth=0.8, linestyle="--", label="learning rate")
    rate.set_ylabel("learning rate")
    rate.set_ylim(0, None)
    rate.spines["top"].set_visible(False)
    axes.legend(handles=[*axes.get_lines(), *rate.get_lines()], frameon=False, loc="upper right")


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
