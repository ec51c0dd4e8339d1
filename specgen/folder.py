"""The compiled folder on disk: written, or compared with what is there."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from specgen.diagnostics import Diagnostic, SpecError

if TYPE_CHECKING:
    from specgen.render import Files

OURS = "# Compiled by specgen"
NAMES = ("config.yaml", "deepspeed.json", "launch.sh", "plan.md", "slurm.sbatch", "trainjob.yaml", "skypilot.yaml")


def write(files: Files, folder: Path) -> None:
    """Writes the files, each whole or not at all, and removes those of an earlier compilation that are gone.

    Raises SpecError where the folder is not ours or may not be written.
    """
    refuse_foreign(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_whole(folder / name, text)
        for name in NAMES:
            if name not in files:
                (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise SpecError(
            Diagnostic(code="SG302", message=f"{folder} cannot be written: {error.strerror}", hint="choose another with --output")
        ) from None


def compile_call(spec: Path, profile: str | None) -> str:
    """The call that makes the folder of a spec again."""
    return f"specgen compile {spec}" + (f" --profile {profile}" if profile else "")


def is_compiled(folder: Path) -> bool:
    """Whether a folder was written by specgen compile."""
    try:
        return (folder / "config.yaml").read_text(encoding="utf-8").startswith(OURS)
    except (OSError, UnicodeDecodeError):
        return False


def is_model(target: Path) -> bool:
    """Whether a model's folder is meant, and not a spec or what it was compiled into."""
    return target.is_dir() and not is_compiled(target)


def refuse_foreign(folder: Path) -> None:
    """Raises SpecError where something else than a compiled folder is there."""
    if folder.is_dir() and (is_compiled(folder) or not any(folder.iterdir())):
        return
    if folder.exists():
        what = "holds files that specgen did not write" if folder.is_dir() else "is a file"
        raise SpecError(
            Diagnostic(code="SG301", message=f"{folder} {what}; nothing was touched", hint="choose another folder with --output")
        )


def stale(files: Files, folder: Path) -> str:
    """A unified diff from the folder to the files; empty where the folder is up to date."""
    diff: list[str] = []
    for name in NAMES:
        there, here = _lines(folder / name), files.get(name, "").splitlines()
        diff += difflib.unified_diff(there, here, f"{folder}/{name}", f"{name} as compiled now", lineterm="")
    return "\n".join(diff)


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []


def write_whole(file: Path, content: str | bytes) -> None:
    """Writes a file, whole or not at all; one that says the same already is left alone. Raises OSError."""
    data = content.encode() if isinstance(content, str) else content
    if file.is_file() and file.read_bytes() == data:
        return
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        partial.write_bytes(data)
        if file.suffix in (".sh", ".sbatch"):
            partial.chmod(0o755)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
