"""Tables of large files, kept in the user's cache folder: a file that has been looked at is not read row by row again.

A table is found by the hash of the file's bytes, by how it was read, and by the code that reads. What is damaged is made anew. A
file in which a secret was found is not kept: the first texts stand in the table.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import zlib
from array import array
from functools import cache
from pathlib import Path
from typing import Any

from specgen.facts.rowtable import COLUMNS, Look, RowTable
from specgen.places import cache_folder
from specgen.writing import write_whole

LEAST_BYTES = 4_000_000  # smaller files are read as fast
NOTES = ("texts", "examples", "dialogues", "told", "alike")
SIZE_BYTES = 8


def key_of(sha256: str, shape: object, look: Look) -> str:
    """What a table is kept under."""
    asked = json.dumps([sha256, repr(shape), look.controls, look.asked, _code()], ensure_ascii=False)
    return hashlib.sha256(asked.encode()).hexdigest()


def kept(key: str, look: Look) -> RowTable | None:
    """The table; None where it is not there or not whole."""
    try:
        data = _file(key).read_bytes()
        notes_size = int.from_bytes(data[:SIZE_BYTES], "little")
        notes = json.loads(data[SIZE_BYTES : SIZE_BYTES + notes_size])
        columns = data[SIZE_BYTES + notes_size :]
        if zlib.crc32(columns) != notes["crc32"]:
            return None
        return _table(notes, columns, look)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep(key: str, table: RowTable) -> None:
    """Keeps a table. One that cannot be written is no fault: it is made again next time."""
    if "secrets" in table.examples:
        return
    columns = b"".join(getattr(table, name).tobytes() for name in COLUMNS)
    notes: dict[str, Any] = {name: getattr(table, name) for name in NOTES}
    notes |= {"rows": len(table), "crc32": zlib.crc32(columns)}
    text = json.dumps(notes, ensure_ascii=False).encode("utf-8", "surrogatepass")
    file = _file(key)
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, len(text).to_bytes(SIZE_BYTES, "little") + text + columns)


def _table(notes: dict[str, Any], columns: bytes, look: Look) -> RowTable:
    table = RowTable(look)
    at = 0
    for name in COLUMNS:
        column: array[int] = getattr(table, name)
        end = at + notes["rows"] * column.itemsize
        column.frombytes(columns[at:end])
        at = end
    for name in NOTES:
        setattr(table, name, notes[name])
    return table


def _file(key: str) -> Path:
    return cache_folder() / "rows" / f"{key[:32]}.table"


@cache
def _code() -> str:
    """A hash of the code that reads rows and looks at them."""
    import conversations

    folders = (Path(conversations.__file__).parent, Path(__file__).parent)
    files = sorted(file for folder in folders for file in folder.rglob("*") if file.suffix in (".py", ".json", ".yaml"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
