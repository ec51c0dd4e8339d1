"""Starts a program of the runtime with a compiled folder: the one that is there, or one that is made aside for it alone."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from specgen import folder, launch
from specgen.compiler import compile_spec


def start_with_build(module: str, spec: Path, profile: str | None, settings: tuple[str, ...], words: list[str]) -> int:
    """Runs `python -m MODULE BUILD WORDS` with a compiled folder, or with a spec compiled aside; returns its exit code."""
    with tempfile.TemporaryDirectory() as scratch:
        build = spec
        if folder.is_compiled(spec):
            if profile or settings:
                raise click.UsageError("a compiled folder is taken as it is: --profile and --set belong to a spec")
        else:
            build = Path(scratch, "build")
            folder.write(compile_spec(spec, profile, settings).files, build)
        return launch.start(module, [str(build), *words])


def start_with_model(module: str, target: Path, profile: str | None, settings: tuple[str, ...], words: list[str]) -> int:
    """Runs `python -m MODULE` with a model's folder, or with a spec as start_with_build; returns its exit code."""
    if folder.is_model(target):
        return launch.start(module, [str(target), *words])
    return start_with_build(module, target, profile, settings, [*words, "--spec", str(target)])
