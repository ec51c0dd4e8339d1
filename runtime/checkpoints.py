"""Checkpoints are whole or they do not count.

When a checkpoint is written, a seal with the size and SHA-256 of each of its files is put into it last. One without a seal
was never finished; one that differs from its seal is damaged. Old ones are removed only after a new one is sealed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from runtime.faults import RunFault
from runtime.stages import write_json

SEAL = "sealed.json"


def seal(checkpoint: Path) -> None:
    """Marks a checkpoint as whole."""
    write_json(checkpoint / SEAL, {str(file.relative_to(checkpoint)): _state(file) for file in _files(checkpoint)})


def prune(folder: Path, keep: int) -> None:
    """Removes all sealed checkpoints but the newest `keep`."""
    sealed = [checkpoint for checkpoint in checkpoints(folder) if (checkpoint / SEAL).exists()]
    for checkpoint in sealed[keep:]:
        shutil.rmtree(checkpoint)


def remove_newer(folder: Path, checkpoint: Path) -> None:
    """Removes what is newer than the checkpoint that training goes on from: it was passed over, and is trained again."""
    for other in checkpoints(folder):
        if _step(other) > _step(checkpoint):
            shutil.rmtree(other)


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoint folders, newest first."""
    found = [path for path in folder.glob("checkpoint-*") if path.is_dir() and path.name.rpartition("-")[2].isdigit()]
    return sorted(found, key=_step, reverse=True)


def newest_whole(folder: Path, tell: Callable[[str], None]) -> Path | None:
    """The checkpoint to go on from; None where training has not come to one. Says which ones it passes over, and why.

    Raises RunFault where there are sealed checkpoints and all of them are damaged: starting over is the user's choice.
    """
    damaged = []
    for checkpoint in checkpoints(folder):
        problem = _problem(checkpoint)
        if problem is None:
            return checkpoint
        tell(f"{checkpoint.name} is passed over: {problem}")
        if (checkpoint / SEAL).exists():
            damaged.append(checkpoint.name)
    if damaged:
        hint = f"bring one back, or remove {folder} to train from the start"
        raise RunFault("SG431", f"every checkpoint is damaged ({', '.join(damaged)})", hint)
    return None


def _problem(checkpoint: Path) -> str | None:
    try:
        sealed = json.loads((checkpoint / SEAL).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "it was never finished"
    for name, state in sealed.items():
        file = checkpoint / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != state[0] or _state(file) != state:
            return f"{name} is not as it was written"
    return None


def _state(file: Path) -> list[int | str]:
    with file.open("rb") as stream:
        return [file.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest()]


def _files(checkpoint: Path) -> list[Path]:
    return sorted(file for file in checkpoint.rglob("*") if file.is_file() and file.name != SEAL)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])
