"""Folders that are made once and kept: base models in the form that transformers reads."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

SHARD = "5GB"  # largest weight file of such a folder


def cache_folder() -> Path:
    """Where converted base models are kept: $SPECGEN_CACHE, else specgen/ in the user's cache folder."""
    if own := os.environ.get("SPECGEN_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "specgen"


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
