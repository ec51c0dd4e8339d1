"""The command line as a user types it, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
ASSISTANT = ROOT / "specs" / "assistant.yaml"


@dataclass(frozen=True)
class Ran:
    """A finished command, and the working folder that it ran in."""

    code: int
    output: str
    folder: Path


def specgen(*arguments: str | Path, cwd: Path, timeout: int = 600, **environment: str) -> Ran:
    """Runs the command line to its end, for at most so many seconds; stdout and stderr together."""
    done = subprocess.run(
        command(*arguments), cwd=cwd, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout
    )
    return Ran(done.returncode, done.stdout.decode("utf-8"), cwd)


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "specgen", *map(str, arguments)]
