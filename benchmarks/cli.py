"""CPU seconds of the command line, beside what importing transformers costs. Run by hand: python benchmarks/cli.py"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
RUNS = 5


def cpu_seconds(command: list[str]) -> float:
    """User and system time of one call, children included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    spec = "specs/assistant.yaml"
    with tempfile.TemporaryDirectory() as scratch:
        commands = {
            "specgen --help": ["-m", "specgen", "--help"],
            "specgen validate": ["-m", "specgen", "validate", spec],
            "specgen compile": ["-m", "specgen", "compile", spec, "--output", f"{scratch}/build"],
            "import transformers (its Trainer)": ["-c", "from transformers import Trainer"],
        }
        medians = {
            name: statistics.median(cpu_seconds([sys.executable, *arguments]) for _ in range(RUNS)) for name, arguments in commands.items()
        }
    peer = medians["import transformers (its Trainer)"]
    print(f"CPU seconds, medians of {RUNS}, Python {sys.version.split()[0]}")
    for name, seconds in medians.items():
        print(f"  {name:<36} {seconds:6.2f} s   {seconds / peer:5.2f} of the import")


if __name__ == "__main__":
    main()
