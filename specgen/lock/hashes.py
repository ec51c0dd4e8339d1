"""SHA-256 of files. Those of large files are remembered, as long as size, time and inode stay the same."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from specgen import digest
from specgen.lock.contents import LockedFile
from specgen.places import cache_folder
from specgen.writing import write_whole

LARGE = 1_000_000  # bytes; hashing less costs no more than looking it up


def hashed(file: Path, name: str) -> LockedFile:
    """A file with its size and hash, under the name that the lock gives it. Raises OSError."""
    return LockedFile(path=name, size=file.stat().st_size, sha256=sha256_of(file))


def sha256_of(file: Path) -> str:
    """The hash of a file's bytes. Raises OSError."""
    status = file.stat()
    if status.st_size < LARGE:
        return _digest(file)
    state = [status.st_size, status.st_mtime_ns, status.st_ino]
    key, known = str(file.resolve()), _remembered()
    if (entry := known.get(key)) and entry[:-1] == state and isinstance(entry[-1], str):
        return entry[-1]
    found = _digest(file)
    _remember({**known, key: [*state, found]})
    return found


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return digest.sha256_of(stream)


def _store() -> Path:
    return cache_folder() / "hashes.json"


def _remembered() -> dict[str, list[int | str]]:
    try:
        known = json.loads(_store().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {key: entry for key, entry in known.items() if isinstance(entry, list) and entry} if isinstance(known, dict) else {}


def _remember(known: dict[str, list[int | str]]) -> None:
    """A cache that cannot be written is no fault: the file is hashed again the next time."""
    store = _store()
    with contextlib.suppress(OSError):
        store.parent.mkdir(parents=True, exist_ok=True)
        write_whole(store, json.dumps(known, indent=0))
