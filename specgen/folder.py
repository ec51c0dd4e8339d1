"""The compiled folder on disk: written, or compared with what is there."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from specgen.diagnostics import Diagnostic, SpecError
from specgen.reading import is_folder, regular
from specgen.writing import write_whole

if TYPE_CHECKING:
    from specgen.render import Files

OURS = "# Compiled by specgen"
Target = Literal["slurm", "kubeflow", "skypilot"]
TARGETS: dict[Target, str] = {"slurm": "slurm.sbatch", "kubeflow": "trainjob.yaml", "skypilot": "skypilot.yaml"}  # what each takes
NAMES = ("config.yaml", "deepspeed.json", "launch.sh", "plan.md", *TARGETS.values())


def write(files: Files, folder: Path) -> None:
    """Writes the files, each whole or not at all, and removes those of an earlier compilation that are gone.

    Raises SpecError where the folder is not ours or may not be written.
    """
    try:
        refuse_foreign(folder)
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


def is_compiled(folder: Path) -> bool:
    """Whether a folder was written by specgen compile."""
    try:
        return (folder / "config.yaml").read_text(encoding="utf-8").startswith(OURS)
    except (OSError, UnicodeDecodeError):
        return False


def is_model(target: Path) -> bool:
    """Whether a model's folder is meant, and not a spec or what it was compiled into."""
    return is_folder(target) and not is_compiled(target)


def refuse_foreign(folder: Path) -> None:
    """Raises SpecError where something else than a compiled folder is there, and OSError where one may not look."""
    if folder.is_dir() and (is_compiled(folder) or not any(folder.iterdir())):
        return
    if folder.exists():
        what = "holds files that specgen did not write" if folder.is_dir() else "is a file"
        raise SpecError(
            Diagnostic(code="SG301", message=f"{folder} {what}; nothing was touched", hint="choose another folder with --output")
        )


def stale(files: Files, folder: Path) -> str:
    """A unified diff from the folder to the files; empty where the folder is up to date. What cannot be read counts as not there."""
    diff: list[str] = []
    for name in NAMES:
        there, here = _lines(folder / name), files.get(name, "").splitlines()
        diff += difflib.unified_diff(there, here, f"{folder}/{name}", f"{name} as compiled now", lineterm="")
    return "\n".join(diff)


def _lines(file: Path) -> list[str]:
    try:
        return regular(file).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
