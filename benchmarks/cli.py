"""CPU seconds of the command line, beside what the peers' own config checks cost. Run by hand:

    python benchmarks/cli.py [--run] [--peers PYTHON] [--json FILE]

--run also trains the default spec once and times the run that then has nothing to do. --peers names the interpreter of an
environment that has axolotl and llamafactory beside transformers; without it only importing transformers stands beside.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from specgen.library import entries

ROOT = Path(__file__).parent.parent
PEERS = ROOT / "benchmarks" / "peers"
ONE, OTHER = "specs/qwen3_8b_lora_alpaca_e1.yaml", "specs/qwen3_8b_full_alpaca_e1.yaml"
RUNS = 5
MANY = 1000
TARGETS = {"validate, the slowest of the library": 0.3, f"validate, {MANY:,} specs in one call": 20.0, "diff of two": 0.6}

AXOLOTL = """
import sys, yaml
from axolotl.utils.config import validate_config
from axolotl.utils.dict import DictDefault
gpu = {"bf16": True, "n_gpu": 1, "compute_capability": "sm_89"}
validate_config(DictDefault(yaml.safe_load(open(sys.argv[1]))), capabilities=gpu, env_capabilities={"torch_version": "2.6.0"})
"""
LLAMAFACTORY = "from llamafactory.hparams import get_train_args; get_train_args()"
QUIET = {"HF_HUB_OFFLINE": "1", "AXOLOTL_DO_NOT_TRACK": "1", "DISABLE_VERSION_CHECK": "1"}
BYTECODE = tempfile.TemporaryDirectory()  # everybody's modules are compiled before they are measured, as after any installation


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """CPU seconds of one command, user and system, children included: the median of `runs`."""

    name: str
    seconds: float
    runs: int


def measured(name: str, command: list[str], *, cwd: Path = ROOT, runs: int = RUNS) -> Figure:
    """The median of some runs, none of which may fail. One before them does not count: it compiles modules."""
    if runs > 1:
        _cpu_seconds(command, cwd)
    return Figure(name=name, seconds=statistics.median(_cpu_seconds(command, cwd) for _ in range(runs)), runs=runs)


def _cpu_seconds(command: list[str], cwd: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, **QUIET, "PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": BYTECODE.name}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=cwd, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def specgen(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "specgen", *arguments]


def figures(*, run: bool, peers: str | None) -> Iterator[Figure]:
    """All figures, as they are measured."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        yield measured("--help", specgen("--help"))
        yield measured("validate", specgen("validate", ONE))
        yield _slowest(measured(entry.name, specgen("validate", f"specs/{entry.path.name}")) for entry in entries())
        yield measured(f"validate, {MANY:,} specs in one call", specgen("validate", *_copies(folder)))
        yield measured("compile", specgen("compile", ONE, "--output", f"{scratch}/build"))
        yield measured("diff of two", specgen("diff", ONE, OTHER))
        if run:
            yield from _runs(folder)
        yield measured("import transformers (its Trainer)", [sys.executable, "-c", "from transformers import Trainer"])
        if peers:
            yield measured("axolotl's config check", [peers, "-c", AXOLOTL, str(PEERS / "axolotl.yml")], cwd=folder)
            yield measured("llamafactory's config check", [peers, "-c", LLAMAFACTORY, str(PEERS / "llamafactory.yaml")], cwd=folder)


def _slowest(each: Iterator[Figure]) -> Figure:
    slowest = max(each, key=lambda figure: figure.seconds)
    print(f"  (the slowest of {len(entries())} is {slowest.name})")
    return Figure(name="validate, the slowest of the library", seconds=slowest.seconds, runs=slowest.runs)


def _copies(folder: Path) -> list[str]:
    """The library over and over, under other names."""
    paths = []
    for index in range(MANY):
        entry = entries()[index % len(entries())]
        text = entry.path.read_text(encoding="utf-8").replace(f"\nname: {entry.name}\n", f"\nname: {entry.name}_{index}\n", 1)
        (path := folder / f"{entry.name}_{index}.yaml").write_text(text, encoding="utf-8")
        paths.append(str(path))
    return paths


def _runs(folder: Path) -> Iterator[Figure]:
    command = specgen("run", "specs/assistant.yaml", "--output", str(folder / "assistant"), "--runs-dir", str(folder / "runs"))
    yield measured("run, everything", command, runs=1)
    yield measured("run, nothing to do", command)


def machine(peers: str | None) -> dict[str, str]:
    """What the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    packages = {name: importlib.metadata.version(name) for name in ("specgen", "jsonschema", "jinja2", "pyyaml", "transformers", "torch")}
    found = {"machine": f"{os.cpu_count()} cores, {model}", "python": platform.python_version(), **packages}
    if peers:
        script = "import importlib.metadata as m; print(m.version('axolotl'), m.version('llamafactory'))"
        axolotl, llamafactory = subprocess.run([peers, "-c", script], check=True, capture_output=True, text=True).stdout.split()
        found |= {"axolotl": axolotl, "llamafactory": llamafactory}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="store_true")
    parser.add_argument("--peers", metavar="PYTHON")
    parser.add_argument("--json", metavar="FILE", type=Path)
    options = parser.parse_args()
    about = machine(options.peers)
    print("CPU seconds, user and system; " + ", ".join(f"{name} {value}" for name, value in about.items()))
    found = list(figures(run=options.run, peers=options.peers))
    validate = next(figure.seconds for figure in found if figure.name == "validate")
    for figure in found:
        target = TARGETS.get(figure.name)
        kept = "" if target is None else f"   at most {target:g}: {'kept' if figure.seconds <= target else 'MISSED'}"
        print(f"  {figure.name:<40} {figure.seconds:7.2f} s   {figure.seconds / validate:6.1f} x validate{kept}")
    if options.json:
        options.json.write_text(
            json.dumps({**about, "cpu_seconds": [asdict(figure) for figure in found]}, indent=2) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
