"""specgen plan: what a run will be, with the figures that only the tokenizer can tell."""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from specgen import folder
from specgen.compiler import Compiled, compile_spec
from specgen.diagnostics import SpecError
from specgen.facts.figures import DataFigures, figures_of
from specgen.launch import run_quietly, told_faults
from specgen.places import cache_folder
from specgen.plan import to_plain
from specgen.summary import total_tokens

RUNS = "plans"  # where data stages of plans lie, below the cache folder


def planned(spec: Path, profile: str | None, settings: tuple[str, ...]) -> Compiled:
    """The compiled spec with its data figures. Raises SpecError, also for what the data stage finds wrong with the rows."""
    compiled = compile_spec(spec, profile, settings)
    return compile_spec(spec, profile, settings, figures=measured_data(compiled))


def as_data(compiled: Compiled) -> dict[str, object]:
    """The plan for other programs: all settings as config.yaml has them, and the figures of the data."""
    figures = compiled.facts.figures
    return {
        "plan": to_plain(compiled.plan),
        "data": None if figures is None else asdict(figures),
        "parameters": compiled.facts.model.parameters if compiled.facts.model else None,
        "total_tokens": total_tokens(compiled.plan, compiled.facts),
    }


def measured_data(compiled: Compiled) -> DataFigures:
    """Runs the data stage in a process of its own, or takes what an earlier run of the same left in the cache."""
    runs = cache_folder() / RUNS / hashlib.sha256(str(Path.cwd()).encode()).hexdigest()[:16]
    with tempfile.TemporaryDirectory() as scratch:
        build = Path(scratch, "build")
        folder.write(compiled.files, build)
        done = run_quietly("runtime", [str(build), "--runs-dir", str(runs), "--stage", "data"])
    if done.code:
        raise SpecError(*told_faults(done.errors))
    record = json.loads((runs / compiled.plan.name / "data" / "stage.json").read_text(encoding="utf-8"))
    return figures_of(record["summary"])
