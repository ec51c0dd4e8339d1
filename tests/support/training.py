"""Trains combinations of the support matrix for real. `python -m tests.support.training [METHOD …]` runs those that compile, and writes
what was run into schemas/support_measured.yaml, which the page of the matrix is made from."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from runtime import config as configs
from runtime.run import pipeline
from specgen import folder as compiled_folder
from specgen.compiler import compile_spec
from tests.support.rows import STEPS, Row, codes_of, rows, spec_of

ROOT = Path(__file__).parents[2]
MEASURED = ROOT / "schemas" / "support_measured.yaml"
AT_ONCE = 6  # DeepSpeed lets go of little: 16 full-size engines one after another came to 9 GB a process
LIBRARIES = ("torch", "transformers", "peft", "accelerate", "deepspeed", "bitsandbytes")
HEAD = """\
# What was run: every combination that compiles, {steps} real steps of SmolLM2-135M on a CPU, with its losses. `python -m
# tests.support.training` writes it; docs/reference/support.md is made from it.
"""


def train_all(chosen: Iterable[Row], folder: Path) -> dict[Row, dict[str, Any]]:
    """What came of each combination: its `losses` or its `error`, and `seconds`. A start of Python is shared by a few."""
    by_processes: dict[int, list[Row]] = {}
    for row in chosen:
        prepare(row, folder)
        by_processes.setdefault(row.processes if row.zero_stage else 0, []).append(row)
    starts = [(processes, some[i : i + AT_ONCE]) for processes, some in by_processes.items() for i in range(0, len(some), AT_ONCE)]
    for processes, some in starts:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes else []
        command = [sys.executable, *launcher, "-m", "tests.support.worker", str(folder), *(row.name for row in some)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-4000:]
    found = {line.pop("name"): line for line in map(json.loads, (folder / "results.jsonl").read_text().splitlines())}
    return {row: found[row.name] for row in chosen}


def prepare(row: Row, folder: Path) -> None:
    """Compiles a combination into FOLDER/NAME/build, with the rows that it is trained on beside it; those are made once."""
    own, made = folder / row.name, folder / f"data-{row.packing}"
    own.mkdir(parents=True)
    (own / "spec.yaml").write_text(spec_of(row))
    compiled_folder.write(compile_spec(own / "spec.yaml").files, own / "build")
    if not made.exists():
        pipeline.run(configs.load(own / "build"), build=own / "build", runs_dir=folder / "first", only=("data",), talk="")
        shutil.move(folder / "first" / "row" / "data", made)
        shutil.rmtree(folder / "first")
    shutil.copytree(made, own / "data")


def measured(outcomes: dict[Row, dict[str, Any]]) -> str:
    """schemas/support_measured.yaml."""
    lines = [HEAD.format(steps=STEPS), "versions:\n"]
    lines += [f"  {library}: {version(library)}\n" for library in LIBRARIES]
    lines += ["rows:\n"]
    for row in sorted(outcomes):
        said = asdict(row) | {"processes": row.processes, "losses": [round(loss, 4) for loss in outcomes[row]["losses"]]}
        lines.append(f"  - {json.dumps(said)}\n")
    return "".join(lines)


def read_measured() -> dict[Row, dict[str, Any]]:
    """What the file has of each combination that was run: its `processes` and `losses`."""
    content = yaml.safe_load(MEASURED.read_text())
    axes = [field.name for field in fields(Row)]
    return {Row(**{axis: entry.pop(axis) for axis in axes}): entry for entry in content["rows"]}


def main(methods: list[str]) -> int:
    """Trains the combinations of the methods named, all if none is; what the file has of the others stays."""
    compiling = [row for row in rows() if not codes_of(row)]
    chosen = [row for row in compiling if not methods or row.method in methods]
    before = read_measured() if methods and MEASURED.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        outcomes = train_all(chosen, Path(folder))
    failed = {row.name: outcome["error"] for row, outcome in outcomes.items() if "error" in outcome}
    for name, error in failed.items():
        print(f"{name}: {error}")
    if failed:
        return 1
    print(f"{len(outcomes)} combinations in {sum(outcome['seconds'] for outcome in outcomes.values()):.0f} s")
    MEASURED.write_text(measured({row: outcomes.get(row) or before[row] for row in compiling if row in outcomes or row in before}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
