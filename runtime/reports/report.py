"""report.html: one file with everything that one wants to look at after a run."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

from runtime import console
from runtime.config import Config, to_plain
from runtime.evaluation.evaluate import ANSWERS
from runtime.exports.card import method, write_cards
from runtime.models.base import base_name
from runtime.preview.page import rows_for_report
from runtime.reports.plots import evaluation_plot, training_plots
from runtime.stage_names import STAGES
from runtime.stages import asks_for, read_stage
from runtime.training import previews
from runtime.training.metrics import METRICS, VALIDATION, Metric, Validation, read_lines

SHOWN_ANSWERS = 20


def report(config: Config, folder: Path, out: Path) -> dict[str, Any]:
    """Writes report.html; needs nothing beside it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    records = {name: read_stage(folder, name) for name in STAGES if name != "report" and asks_for(config, name)}
    evaluation = records["eval"]["summary"] if "eval" in records else None
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parents[1] / "templates", encoding="utf-8"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(size=console.size, clock=console.clock)
    metrics = [Metric(**line) for line in read_lines(folder / "train" / METRICS)]
    validation = [Validation(step=line["step"], loss=line["loss"]) for line in read_lines(folder / "train" / VALIDATION)]
    html = environment.get_template("report.html.j2").render(
        config=config,
        base=base_name(config.model.base),
        method=method(config),
        stages=records,
        data=records["data"]["summary"],
        train=records["train"]["summary"],
        merge=records["merge"]["summary"],
        export=records["export"]["summary"] if "export" in records else {"gguf": [], "quantized": None},
        smoke=records["smoke"]["summary"],
        evaluation=evaluation,
        evaluation_plot=evaluation_plot(evaluation["results"]) if evaluation else "",
        answers=read_lines(folder / "eval" / ANSWERS)[:SHOWN_ANSWERS] if evaluation else [],
        previews=previews_by_prompt(read_lines(folder / "train" / previews.FILE)),
        trained=rows_for_report(config),
        plots=training_plots(metrics, validation),
        validation=validation,
        best=min(validation, key=lambda point: point.loss, default=None),
        versions={name: value for record in records.values() for name, value in record["versions"].items()},
        machine=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        settings=json.dumps(to_plain(config), ensure_ascii=False, indent=2),
    )
    write_cards(config, folder)
    (out / "report.html").write_text(html, encoding="utf-8")
    console.say("report", str(folder / "report" / "report.html"))
    return {}


def previews_by_prompt(previews: list[dict[str, Any]]) -> dict[str, list[tuple[int, str]]]:
    """Prompt → its answers over time, as (step, answer); a step that was trained twice counts once, the later time."""
    by_prompt: dict[str, dict[int, str]] = {}
    for preview in previews:
        by_prompt.setdefault(preview["prompt"], {})[preview["step"]] = preview["answer"]
    return {prompt: sorted(answers.items()) for prompt, answers in by_prompt.items()}
