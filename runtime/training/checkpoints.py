"""Checkpoints are whole or they are absent.

A checkpoint is written in a folder aside. Then a seal with the size and SHA-256 of each of its files is put into it, everything
is flushed to the disk, and only then is it renamed to its own name. Old ones are removed after that. So a process may be killed at
any moment: what has a checkpoint's name is whole, unless somebody changed it later, and then it differs from its seal.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runtime import console
from runtime.faults import RunFault
from runtime.files import linked
from runtime.stages import write_json

SEAL = "sealed.json"
ASIDE = "checkpoint.partial"  # where one is written
GOING = ".removing"  # the end of the name of one that is being removed
THREADS = 8  # files hashed and flushed at once; a GB takes about a second
OF_TRAINING = (SEAL, "contract.json", "trainer_state.json")  # the JSON files that are no part of a model
SLOW_S = 10.0  # after so long, a line says what is being waited for


def put_in_place(folder: Path, name: str) -> Path:
    """Seals the checkpoint `folder/checkpoint.partial/name`, flushes it to the disk and gives it its place, `folder/name`."""
    written, place = folder / ASIDE / name, folder / name
    if place.exists():  # it was passed over as damaged, and is here again by training
        _remove(place)
    with console.told_when_slow("train", f"{name} is hashed and flushed to the disk ({_size(written)})", after_s=SLOW_S):
        seal(written)
    written.rename(place)
    _flush(folder)
    shutil.rmtree(folder / ASIDE)
    return place


def seal(checkpoint: Path) -> None:
    """Marks a checkpoint as whole: all its files are on the disk, with their sizes and hashes.

    They are hashed while they are still in memory, and flushed at the same time: a slow disk is written once, and not read.
    """
    files = _files(checkpoint)
    with ThreadPoolExecutor(THREADS) as flushing, ThreadPoolExecutor(THREADS) as hashing:
        flushed = [flushing.submit(_flush, file) for file in files]
        states = list(hashing.map(_state, files))
        for done in flushed:
            done.result()
    write_json(checkpoint / SEAL, {str(file.relative_to(checkpoint)): state for file, state in zip(files, states, strict=True)})
    for path in (checkpoint / SEAL, *(path for path in checkpoint.rglob("*") if path.is_dir()), checkpoint):
        _flush(path)


def prune(folder: Path, keep: int, best: int | None = None) -> None:
    """Removes all sealed checkpoints but the newest `keep`. That of step `best` is one of those that stay, and the newest, too."""
    sealed = [checkpoint for checkpoint in checkpoints(folder) if (checkpoint / SEAL).exists()]
    first = [checkpoint for checkpoint in sealed if step_of(checkpoint) == best]
    others = [checkpoint for checkpoint in sealed if step_of(checkpoint) != best]
    staying = {*sealed[:1], *first, *others[: keep - len(first)]}
    for checkpoint in sealed:
        if checkpoint not in staying:
            _remove(checkpoint)


def take_weights(checkpoint: Path, out: Path) -> None:
    """Puts the model of a checkpoint, without what only training needs, into the folder `out`, made anew.

    Raises RunFault where the checkpoint is not as it was written.
    """
    if problem := problem_of(checkpoint) if checkpoint.exists() else "it is not there":
        message = f"the result is to be {checkpoint.name}, which had the lowest validation loss; {problem}"
        raise RunFault("SG449", message, "bring it back; or write train.load_best_model_at_end: false, and the last weights are the result")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    for file in (*checkpoint.glob("*.safetensors"), *checkpoint.glob("*.json")):
        if file.name not in OF_TRAINING:
            linked(file, out / file.name)


def clean(folder: Path, tell: Callable[[str], None]) -> None:
    """Removes what a process that was killed left half written or half removed; says so in a line."""
    aside = folder / ASIDE
    if aside.exists():
        names = ", ".join(sorted(path.name for path in aside.iterdir())) or "a checkpoint"
        tell(f"{names} was being written when the last run ended: what there is of it is removed")
        shutil.rmtree(aside)
    for going in folder.glob(f"checkpoint-*{GOING}"):
        shutil.rmtree(going)


def remove_newer(folder: Path, checkpoint: Path) -> None:
    """Removes what is newer than the checkpoint that training goes on from: it was passed over, and is trained again."""
    for other in checkpoints(folder):
        if step_of(other) > step_of(checkpoint):
            _remove(other)


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoint folders, newest first."""
    found = [path for path in folder.glob("checkpoint-*") if path.is_dir() and path.name.rpartition("-")[2].isdigit()]
    return sorted(found, key=step_of, reverse=True)


def newest_whole(folder: Path, tell: Callable[[str], None]) -> Path | None:
    """The checkpoint to go on from; None where training has not come to one. Says which ones it passes over, and why.

    Raises RunFault where there are sealed checkpoints and all of them are damaged: starting over is the user's choice.
    """
    damaged = []
    for checkpoint in checkpoints(folder):
        problem = problem_of(checkpoint)
        if problem is None:
            return checkpoint
        tell(f"{checkpoint.name} is passed over: {problem}")
        if (checkpoint / SEAL).exists():
            damaged.append(checkpoint.name)
    if damaged:
        hint = f"bring one back, or remove {folder} to train from the start"
        raise RunFault("SG431", f"every checkpoint is damaged ({', '.join(damaged)})", hint)
    return None


def problem_of(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, in words; None where it is as it was written. Reads all of it."""
    try:
        sealed = json.loads((checkpoint / SEAL).read_text(encoding="utf-8"))
        sizes = {name: state[0] for name, state in sealed.items()}
    except (OSError, ValueError, AttributeError, TypeError, IndexError):
        return "it was never finished"
    for name, size in sizes.items():
        file = checkpoint / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} is not as it was written"
    with (
        console.told_when_slow("train", f"{checkpoint.name} is held against its hashes ({_size(checkpoint)})", after_s=SLOW_S),
        ThreadPoolExecutor(THREADS) as hashing,
    ):
        states = hashing.map(lambda name: _state(checkpoint / name), sealed)
        changed = [name for name, state in zip(sealed, states, strict=True) if state != sealed[name]]
    return f"{changed[0]} is not as it was written" if changed else None


def _state(file: Path) -> list[int | str]:
    with file.open("rb") as stream:
        return [file.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest()]


def _flush(path: Path) -> None:
    """Has the disk hold what was written to a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(checkpoint: Path) -> None:
    """A checkpoint that is half removed has no checkpoint's name any more."""
    going = checkpoint.with_name(checkpoint.name + GOING)
    checkpoint.rename(going)
    shutil.rmtree(going)


def _files(checkpoint: Path) -> list[Path]:
    return sorted(file for file in checkpoint.rglob("*") if file.is_file() and file.name != SEAL)


def _size(checkpoint: Path) -> str:
    return console.size(sum(file.stat().st_size for file in _files(checkpoint)))


def step_of(checkpoint: Path) -> int:
    """The optimizer step that a checkpoint was written after, by its name, or that of what was made of it."""
    return int(checkpoint.name.rpartition("-")[2])
