"""python -m release: builds wheel and sdist, installs both on every Python that specgen promises, and writes down what they need.

PYTHONS="3.11 3.12" tries only these; AUDIT=skip asks nobody about vulnerabilities.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from release.archives import ROOT, Archives, build, require_dated_entry
from release.installed import Environment, ask_the_compiler, constraints, environment, find_python, train_a_model
from release.parts import BIN, audit, write_sbom
from release.say import Refused, say

PYTHONS = "3.10 3.11 3.12 3.13"
LIGHT = "data,dedup,sweep,tensorboard"  # extras that need no PyTorch
ALL = "train,data,qlora,optimizers,dedup,serve,sweep,eval,web,tensorboard"
TRAINING = "3.11"  # that constraints.txt is for


def main() -> None:
    """From the sources to files that could be uploaded."""
    require_dated_entry((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    archives = build()
    for file in (archives.wheel, archives.sdist):
        say("build", f"{file.relative_to(ROOT)} · {file.stat().st_size / 1e6:.1f} MB · twine has no complaint")
    with tempfile.TemporaryDirectory() as name:
        for version in os.environ.get("PYTHONS", PYTHONS).split():
            compiler_on(version, archives, Path(name))
        whole = everything(archives, Path(name))
        audit(whole)
    twine, *uploaded = (os.path.relpath(file, ROOT) for file in (BIN / "twine", archives.wheel, archives.sdist))
    print(f"\nnext: {twine} upload {' '.join(uploaded)}")


def compiler_on(version: str, archives: Archives, folder: Path) -> None:
    """Installs both archives, asks the compiler, and then once more beside what it reads data and sweeps with."""
    python = find_python(version)
    for archive in (archives.wheel, archives.sdist):
        found = environment(python, folder / f"{version}{archive.suffix}")
        found.install(str(archive))
        ask_the_compiler(found)
    more = environment(python, folder / f"{version}-more")
    more.install(f"{archives.wheel}[{LIGHT}]")
    ask_the_compiler(more)
    say(version, f"compiler from wheel, from sdist, and with {LIGHT.replace(',', ', ')}")


def everything(archives: Archives, folder: Path) -> Environment:
    """Installs the extras, in the versions that the tests ran with, and has a model trained."""
    whole = environment(find_python(TRAINING), folder / "whole")
    whole.install(*constraints(), "torch")  # first, as in the Makefile
    whole.install(*constraints(), f"{archives.wheel}[{ALL}]")
    write_sbom(whole)
    say("train", train_a_model(whole))
    return whole


if __name__ == "__main__":
    try:
        main()
    except Refused as refused:
        print(f"no release: {refused}", file=sys.stderr)
        sys.exit(1)
