"""How many small faults the tests find: mutmut changes the checks, the resolver and the masks, one place at a time.

    make mutants                                a sample of 400, a quarter of an hour on two cores
    python -m tests.mutants --sample 40         fewer
    python -m tests.mutants 'specgen.rules.zero.*'   all of a module; `mutmut show NAME` prints what was changed

What is changed, and which tests look, stands in pyproject.toml. As a plugin of pytest this has the tests that know a module's codes
come first.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

import pytest

FOLDER = Path("mutants")
MARK = "MUTANT_UNDER_TEST"
SURVIVED, UNTESTED = 0, 33
LEAST = 0.85
SEED = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", nargs="*", default=["*"], help="Names of mutants.")
    parser.add_argument("--sample", type=int, default=400, help="How many of them, chosen by a seed; 0: all.")
    arguments = parser.parse_args()
    known = results()
    if not known:
        mutmut("specgen.validate.x_validate__mutmut_1")  # makes all mutants, and notes which tests meet which
        known = results()
    names = sorted(name for name in known if any(fnmatch(name, pattern) for pattern in arguments.patterns))
    chosen = random.Random(SEED).sample(names, arguments.sample) if 0 < arguments.sample < len(names) else names
    left = [name for name in chosen if known[name] is None]
    if left:
        mutmut(*left)
    raise SystemExit(show(chosen, of=len(names)))


def mutmut(*names: str) -> None:
    quiet = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONHASHSEED": "0"}
    subprocess.run([Path(sys.executable).parent / "mutmut", "run", *names], env={**os.environ, **quiet}, check=True)


def results() -> dict[str, int | None]:
    """Mutants by name, each with the exit code of the tests, or None."""
    found: dict[str, int | None] = {}
    for file in sorted(FOLDER.rglob("*.meta")):
        found |= json.loads(file.read_text(encoding="utf-8"))["exit_code_by_key"]
    return found


def show(chosen: list[str], *, of: int) -> int:
    """Prints what became of them by module, and the share that the tests found; returns the exit code."""
    known = results()
    survived = [name for name in chosen if known[name] in (SURVIVED, UNTESTED)]
    modules, left = (Counter(name.partition(".x")[0] for name in names) for names in (chosen, survived))
    for module, number in sorted(modules.items()):
        print(f"{module:40} {number - left[module]:4} of {number:4}")
    print("\n".join(["", "not found:", *survived]))
    share = 1 - len(survived) / len(chosen)
    print(f"\n{len(chosen) - len(survived)} of {len(chosen)} mutants found ({share:.1%}; {of:,} in all); at least {LEAST:.0%} are wanted")
    return 0 if share >= LEAST else 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests whose case tells a code of the module that is changed come first: then most mutants are found in a second."""
    module = os.environ.get(MARK, "").partition(".x")[0]
    source = Path(*module.split(".")).with_suffix(".py") if module else Path()
    if not source.is_file():
        return
    codes = {*re.findall(r"\bSG\d{3}\b", source.read_text(encoding="utf-8"))}

    def is_far(item: pytest.Item) -> bool:
        case = re.search(r"\[(\w+)\]$", item.nodeid)
        expected = Path("tests", "specs_bad", case[1], "expected.txt") if case else Path()
        told = expected.read_text(encoding="utf-8") if expected.is_file() else item.nodeid
        return not codes & {*re.findall(r"SG\d{3}", told)}

    items.sort(key=is_far)


if __name__ == "__main__":
    main()
