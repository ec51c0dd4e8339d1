"""End-to-end runs through the command line, on the real small model. Runs that several tests look at are made once."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ASSISTANT = ROOT / "specs" / "assistant.yaml"


@dataclass(frozen=True)
class Ran:
    """A finished command, and the working folder that it ran in."""

    code: int
    output: str
    folder: Path


def specgen(*arguments: str | Path, cwd: Path, **environment: str) -> Ran:
    """Runs the command line to its end; stdout and stderr together."""
    done = subprocess.run(
        command(*arguments), cwd=cwd, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600
    )
    return Ran(done.returncode, done.stdout.decode("utf-8"), cwd)


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "specgen", *map(str, arguments)]


@pytest.fixture(scope="session")
def assistant(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """`specgen run specs/assistant.yaml`, as a newcomer types it, in a folder of its own."""
    return specgen("run", ASSISTANT, cwd=tmp_path_factory.mktemp("assistant"))
