"""CPU seconds of the command line, beside what the peers' own config checks cost.

python -m benchmarks.cli
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.bench import AXOLOTL, LLAMAFACTORY, ROOT, RUNS, Figures, Report, Table, Target, measured, medians, peers, specgen, versions
from specgen.compiler import compile_spec
from specgen.library import entries

SPECS = ROOT / "specs"
ONE, OTHER = SPECS / "qwen3_8b_lora_alpaca_e1.yaml", SPECS / "qwen3_8b_full_alpaca_e1.yaml"
MANY = 200
SLOWEST, AT_ONCE = "validate, the slowest of the library", f"validate, {MANY:,} specs in one call"
IMPORT = "import transformers"
CONFIGS = ROOT / "benchmarks" / "peers"
CHECKS = {
    AXOLOTL: """
import sys, yaml
from axolotl.utils.config import validate_config
from axolotl.utils.dict import DictDefault
gpu = {"bf16": True, "n_gpu": 1, "compute_capability": "sm_89"}
validate_config(DictDefault(yaml.safe_load(open(sys.argv[1]))), capabilities=gpu, env_capabilities={"torch_version": "2.6.0"})
""",
    LLAMAFACTORY: "from llamafactory.hparams import get_train_args; get_train_args()",
}
FILES = {AXOLOTL: CONFIGS / "axolotl.yml", LLAMAFACTORY: CONFIGS / "llamafactory.yaml"}


def main() -> None:
    """Measures the commands beside the peers' and shows the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=RUNS)
    arguments = parser.parse_args()
    found = {peer.name: peer.version() for peer in peers() if peer in CHECKS}
    packages = versions("specgen", "jsonschema", "jinja2", "pyyaml", "transformers", "torch")
    report = Report(name="cli", about="CPU seconds of one command, user and system", runs=arguments.runs, versions=packages | found)
    with tempfile.TemporaryDirectory() as scratch:
        ways = commands(Path(scratch))
        report.figures["commands"] = medians(ways, runs=arguments.runs, what="commands")
    show(report)
    report.show()


def commands(folder: Path) -> dict[str, Callable[[], Figures]]:
    """What is measured, by its name."""
    run = [
        "run",
        SPECS / "assistant.yaml",
        "--set",
        "train.max_steps=1",
        "--set",
        "smoke=[]",
        "--output",
        folder / "build",
        "--runs-dir",
        folder / "runs",
    ]
    own = {
        "--help": ["--help"],
        "validate": ["validate", ONE],
        SLOWEST: ["validate", _slowest()],
        AT_ONCE: ["validate", *_copies(folder)],
        "compile": ["compile", ONE, "--output", folder / "compiled"],
        "plan": ["plan", SPECS / "assistant.yaml"],
        "diff": ["diff", ONE, OTHER],
        "run, nothing to do": run,
    }
    ways = {name: partial(_cpu, specgen(*words), folder, cwd=ROOT) for name, words in own.items()}
    ways[IMPORT] = partial(_cpu, [sys.executable, "-c", "from transformers import Trainer"], folder, cwd=folder)
    for peer, script in CHECKS.items():
        if peer.is_installed:
            ways[f"{peer.name}'s config check"] = partial(
                _cpu, [peer.python, "-c", script, FILES[peer]], folder, cwd=folder, **peer.environment
            )
    return ways


def _cpu(command: list[str | Path], folder: Path, *, cwd: Path, **environment: str) -> Figures:
    written = {"SPECGEN_CACHE": str(folder / "cache"), "PYTHONDONTWRITEBYTECODE": ""}  # the first run of a clone compiles our modules
    return {"cpu": measured(command, cwd=cwd, **written, **environment).cpu}


def _slowest() -> Path:
    """The spec of the library that takes longest, by one look at each in this process."""
    compile_spec(ONE)  # loads what the others find loaded
    seconds = {}
    for entry in entries():
        began = time.process_time()
        compile_spec(entry.path)
        seconds[entry.path] = time.process_time() - began
    return max(seconds, key=lambda path: seconds[path])


def _copies(folder: Path) -> list[Path]:
    """The library over and over, under other names."""
    paths = []
    for index in range(MANY):
        entry = entries()[index % len(entries())]
        text = entry.path.read_text(encoding="utf-8").replace(f"\nname: {entry.name}\n", f"\nname: {entry.name}_{index}\n", 1)
        paths.append(folder / f"{entry.name}_{index}.yaml")
        paths[-1].write_text(text, encoding="utf-8")
    return paths


def show(report: Report) -> None:
    """The table, and what has to hold."""
    seconds = {name: figures["cpu"] for name, figures in report.figures["commands"].items()}
    table = Table(title="Commands", columns=("", "CPU seconds", "of validate's", "of importing transformers"))
    for name, found in seconds.items():
        table.rows.append((name, f"{found:.2f}", f"{found / seconds['validate']:.1f}", f"{found / seconds[IMPORT]:.2f}"))
    report.tables.append(table)
    report.targets += [
        Target(what="importing transformers, in times of validate's CPU", found=seconds[IMPORT] / seconds["validate"], least=10),
        Target(what=f"{SLOWEST}, CPU seconds", found=seconds[SLOWEST], most=0.3),
        Target(what=f"{AT_ONCE}, CPU seconds", found=seconds[AT_ONCE], most=4),
        Target(what="diff of two, CPU seconds", found=seconds["diff"], most=0.6),
    ]


if __name__ == "__main__":
    main()
