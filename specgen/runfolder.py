"""A run folder as the runtime leaves it, read from its JSON files alone: no torch, and no runtime."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specgen.stages import STAGES

MARK = ".specgen"  # the file that the runtime locks while a run is active
UNASKED = {"eval", "export"}  # stages that a config may not ask for
DEPTH = 3  # how far below the runs folder run folders are looked for: trials of a sweep lie deeper
SILENT_S = 120  # a run on another machine that has told nothing for so long may have died
SEAL = "sealed.json"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What the files of a run folder say.

    `state`: running, done, stopped (after the stages that were asked for), failed, interrupted, preempted, killed (it ended
    without a word), silent (on another machine, and not heard of) or unknown. `validation` and `previews` as training wrote
    them down; `checkpoints` newest first, each with whether it is whole.
    """

    folder: Path
    state: str
    progress: Json
    config: Json
    stages: dict[str, Json]
    validation: list[Json]
    previews: list[Json]
    metric: Json
    checkpoints: list[tuple[str, bool]]

    def summary(self, stage: str) -> Json:
        """The figures that a stage left; empty while it has left none."""
        summary: Json = self.stages.get(stage, {}).get("summary", {})
        return summary

    @property
    def best_validation(self) -> Json | None:
        """The lowest validation loss and its step."""
        return min(self.validation, key=lambda point: point["loss"], default=None)


def is_run(folder: Path) -> bool:
    """Whether the runtime has made this folder."""
    return os.path.isfile(folder / MARK)  # noqa: PTH113  (Path's raises where one may not look)


def runs_below(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    """The run folders below a folder, by name. A folder that may not be looked into has none."""
    try:
        inside = sorted(folder.iterdir())
    except OSError:
        return
    for path in inside:
        if is_run(path):
            yield path
        elif depth > 1:
            yield from runs_below(path, depth - 1)


def read_run(folder: Path) -> Run:
    """Reads a run folder. Files that are not there, or half written, count as empty."""
    progress = _json(folder / "progress.json")
    stages = {name: record for name in STAGES if (record := _json(folder / name / "stage.json"))}
    train = _train_folder(folder, progress)
    return Run(
        folder=folder,
        state=_state(folder, progress, stages),
        progress=progress,
        config=_json(folder / "config.json"),
        stages=stages,
        validation=objects_in(train / "validation.jsonl"),
        previews=objects_in(train / "previews.jsonl"),
        metric=next(iter(objects_in(train / "metrics.jsonl")[-1:]), {}),
        checkpoints=[(path.name, _is_whole(path)) for path in _checkpoints(train)],
    )


def _train_folder(folder: Path, progress: Json) -> Path:
    """Where training writes, or has written: an earlier result stays in place while it is trained again."""
    partial = folder / "train.partial"
    is_training = progress.get("stage") == "train" and progress.get("state") != "done"
    return partial if partial.is_dir() and (is_training or not (folder / "train").is_dir()) else folder / "train"


def _state(folder: Path, progress: Json, stages: dict[str, Json]) -> str:
    state = str(progress.get("state", "done" if {*STAGES} - {*stages} <= UNASKED else "unknown"))
    if is_active(folder):
        return "running"
    if state != "running":
        return state
    if progress.get("host") == socket.gethostname():
        return "killed"
    return "running" if time.time() - float(progress.get("updated", 0)) < SILENT_S else "silent"


def is_active(folder: Path) -> bool:
    """Whether a process of this machine, or of one that shares the locks of the file system, holds the run folder."""
    import fcntl

    try:
        with (folder / MARK).open() as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no run folder, or one on a disk without locks
        return _lives(_json(folder / "progress.json"))
    return False


def _lives(progress: Json) -> bool:
    """Whether the process that told of a run last is there, on this machine. Without a lock nothing better is known."""
    if progress.get("state") != "running" or progress.get("host") != socket.gethostname():
        return False
    try:
        os.kill(int(progress["pid"]), 0)
    except PermissionError:  # another user's
        return True
    except (OSError, KeyError, ValueError):
        return False
    return True


def _checkpoints(train: Path) -> list[Path]:
    found = [path for path in train.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)


def _is_whole(checkpoint: Path) -> bool:
    """Whether each file has the size that the seal tells. The hashes are read when training goes on."""
    sealed = _json(checkpoint / SEAL)
    return bool(sealed) and all(_size(checkpoint / name) == state[0] for name, state in sealed.items())


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return -1


def _json(file: Path) -> Json:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def objects_in(file: Path) -> list[Json]:
    """The objects of a JSON-lines file; a line that is not whole, such as one that is being written, is left out."""
    try:
        lines = file.read_bytes().split(b"\n")  # texts may hold characters at which splitlines parts, too
    except OSError:
        return []
    return [found for line in lines if (found := _object(line))]


def _object(line: bytes) -> Json | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
