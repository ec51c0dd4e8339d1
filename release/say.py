"""What a release prints, and how it calls programs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

Words = Sequence[str | Path]


class Refused(Exception):
    """Why this is no release, in a sentence."""


def say(label: str, text: str) -> None:
    """One line: what it is about in the first column, then the text."""
    print(f"{label:<8} {text}", flush=True)


def called(words: Words, *, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """A program's end and output. It finds no package but those of its own environment."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(words, cwd=cwd, env={**inherited, **environment}, capture_output=True, text=True)


def output_of(words: Words, *, cwd: Path | None = None, **environment: str) -> str:
    """What a program prints. Raises Refused where it fails."""
    done = called(words, cwd=cwd, **environment)
    if done.returncode:
        raise Refused(f"{' '.join(map(str, words))} ended with {done.returncode}:\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout
