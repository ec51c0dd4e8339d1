"""Folders that are made once and kept: base models in the form that transformers reads.

A folder's name ends with a digest of the state of what it was made of: of a changed model it is made anew, and the older one goes.
"""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

SHARD = "5GB"  # largest weight file of such a folder
READ = (".json", ".model", ".jinja", ".safetensors", ".bin")  # what of a model's folder is read


def cache_folder() -> Path:
    """Where converted base models are kept: $SPECGEN_CACHE, else specgen/ in the user's cache folder."""
    if own := os.environ.get("SPECGEN_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "specgen"


def name_of(folder: Path) -> str:
    """What a model's folder is called; of a snapshot in the hub's cache the repository's own name."""
    place = folder.resolve()
    return place.parent.parent.name.rpartition("--")[2] if place.parent.name == "snapshots" else place.name


def state_of(folder: Path) -> str:
    """What tells one state of a model's folder from another. A snapshot in the hub's cache is known by its commit, which its path ends
    with."""
    place = folder.resolve()
    if place.parent.name == "snapshots":
        return ""
    files = sorted(file for file in place.iterdir() if file.suffix in READ and file.is_file())
    return str([(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files])


def kept_as(name: str, *, places: str, state: str) -> Path:
    """The folder of that name that is or will be made of what lies at some places, in this state."""
    return cache_folder() / f"{name}-{_digest(places)}-{_digest(state)}"


def made_once(target: Path, write: Callable[[Path], object], *, lock: Path, tell: Callable[[], None]) -> Path:
    """A folder of `kept_as`, written where it is not there; `tell` says so before. Others wait for it at the file `lock`."""
    if not target.exists():
        with one_at_a_time(lock):
            if not target.exists():
                tell()
                whole(target, write)
                _leave_only(target)
    return target


def _leave_only(target: Path) -> None:
    """Removes what older states of the same were made to: each is as large as the model. What its tokenizer alone was, stays."""
    stem = target.name.rpartition("-")[0]
    for other in target.parent.glob(f"{glob.escape(stem)}-*"):
        if not other.name.startswith(target.name):
            shutil.rmtree(other, ignore_errors=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def whole(target: Path, write: Callable[[Path], object]) -> None:
    """A folder, written beside and renamed when whole; where another process was sooner, its own stays."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=".partial-"))
    try:
        write(scratch)
        try:
            scratch.rename(target)
        except OSError:
            if not target.exists():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def one_at_a_time(file: Path) -> Iterator[None]:
    """Within this no other process is that does the same with a file: the processes of a training all ask for the base at once."""
    import fcntl

    with _opened(file) as stream:
        with suppress(OSError):  # a network's disk without locks: then each does the work, and one folder of them is kept
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _opened(file: Path) -> IO[bytes]:
    """For writing where that is allowed, though nothing is written: NFS locks no other file for one process alone."""
    try:
        return file.open("r+b")
    except OSError:  # of another user, or on a disk that is only read
        return file.open("rb")
