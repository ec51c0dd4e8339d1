"""What only the tokenizer can tell of the rows: the runtime's data stage is run for its figures."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path

from specgen import folder
from specgen.compiler import Compiled
from specgen.diagnostics import SpecError
from specgen.facts.figures import DataFigures, figures_of
from specgen.launch import run_quietly
from specgen.places import cache_folder
from specgen.runtime_faults import told_faults

NOT_TO_BE_HAD = {"SG311", "SG411", "SG412", "SG417"}  # PyTorch is not installed; a model or a data set of the hub
RUNS = "plans"  # where data stages of plans lie, below the cache folder


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
