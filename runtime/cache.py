"""Folders that are made once and kept: base models in the form that transformers reads."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SHARD = "5GB"  # largest weight file of such a folder


def cache_folder() -> Path:
    """Where converted base models are kept: $SPECGEN_CACHE, else specgen/ in the user's cache folder."""
    if own := os.environ.get("SPECGEN_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "specgen"


def whole(target: Path, write: Callable[[Path], object]) -> None:
    """A folder, written beside and renamed when whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=".partial-"))
    try:
        write(scratch)
        if not target.exists():
            scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def one_at_a_time(file: Path) -> Iterator[None]:
    """Within this no other process is that does the same with a file: the processes of a training all ask for the base at once."""
    import fcntl

    with file.open() as stream:
        with suppress(OSError):  # a network's disk without locks: then each does the work, and one folder of them is kept
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
