"""The header of a GGUF file: key-values and tensor shapes. Format: ggml's docs/gguf.md, version 2 and 3.

The `gguf` package would import numpy and materialise the vocabulary (0.25 s); this skips over arrays (0.03 s).
"""

from __future__ import annotations

import hashlib
import mmap
import re
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHeader:
    """`values` holds scalars and texts, not arrays; `tensors` maps names to shapes, fastest dimension first.

    `added_tokens` has the texts of the tokens that are no pieces of text, by their ids, and whether they are control tokens.
    """

    values: dict[str, str | int | float | bool]
    tensors: dict[str, tuple[int, ...]]
    added_tokens: dict[int, tuple[str, bool]]


def read_gguf_header(path: Path) -> GgufHeader:
    """Raises ValueError where the file is no GGUF or is cut off."""
    stat = path.stat()
    return _header(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=8)  # many specs of one call share a base; a changed file has another time or size
def _header(path: Path, changed_ns: int, size: int) -> GgufHeader:
    with path.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise ValueError(f"{path.name} is no GGUF file")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _read(data)
            except (struct.error, UnicodeDecodeError, KeyError, RecursionError):
                raise ValueError(f"{path.name} is damaged: its header cannot be read") from None


def tokenizer_hash(path: Path) -> str | None:
    """The SHA-256 of the tokenizer inside a GGUF file: all its tokenizer.* values; None where it has none.

    Raises ValueError where the file is no GGUF or is cut off.
    """
    read_gguf_header(path)
    parts: dict[str, bytes] = {}
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        cursor = _Cursor(data, 16)
        for _ in range(cursor.number("Q")):
            key, start = cursor.text(), cursor.offset
            cursor.value(cursor.number("I"))
            if key.startswith("tokenizer."):
                parts[key] = data[start : cursor.offset]
    digest = hashlib.sha256()
    for key, part in sorted(parts.items()):
        digest.update(key.encode() + b"\0" + part)
    return digest.hexdigest() if parts else None


def _read(data: mmap.mmap) -> GgufHeader:
    cursor = _Cursor(data, 8)
    tensor_count, value_count = cursor.number("Q"), cursor.number("Q")
    values: dict[str, str | int | float | bool] = {}
    arrays: dict[str, int] = {}
    for _ in range(value_count):
        key, kind = cursor.text(), cursor.number("I")
        start = cursor.offset
        if (value := cursor.value(kind)) is None:
            arrays[key] = start
        else:
            values[key] = value
    tensors = {}
    for _ in range(tensor_count):
        name, dimensions = cursor.text(), cursor.number("I")
        tensors[name] = tuple(cursor.number("Q") for _ in range(dimensions))
        cursor.offset += 4 + 8  # type and position
    return GgufHeader(values=values, tensors=tensors, added_tokens=_added_tokens(data, arrays))


def _added_tokens(data: mmap.mmap, arrays: dict[str, int]) -> dict[int, tuple[str, bool]]:
    """Of the tokens, those of the types CONTROL (3) and USER_DEFINED (4)."""
    if not {"tokenizer.ggml.tokens", "tokenizer.ggml.token_type"} <= arrays.keys():
        return {}
    types = _Cursor(data, arrays["tokenizer.ggml.token_type"] + 4)
    count = types.number("Q")
    found = re.finditer(b"[\x03\x04]\0\0\0", data[types.offset : types.offset + 4 * count])
    kinds = {match.start() // 4: match[0][0] for match in found if match.start() % 4 == 0}
    added: dict[int, tuple[str, bool]] = {}
    tokens = _Cursor(data, arrays["tokenizer.ggml.tokens"] + 12)
    for number in range(max(kinds, default=-1) + 1):
        if number in kinds:
            added[number] = tokens.text(), kinds[number] == 3
        else:
            length = tokens.number("Q")  # moves the offset, too
            tokens.offset += length
    return added


class _Cursor:
    def __init__(self, data: mmap.mmap, offset: int) -> None:
        self.data, self.offset = data, offset

    def number(self, form: str) -> int:
        number: int = struct.unpack_from("<" + form, self.data, self.offset)[0]
        self.offset += struct.calcsize("<" + form)
        return number

    def text(self) -> str:
        length = self.number("Q")
        if length > len(self.data):
            raise struct.error
        self.offset += length
        return self.data[self.offset - length : self.offset].decode("utf-8")

    def value(self, kind: int) -> str | int | float | bool | None:
        """The value that stands here; None for an array, which is skipped."""
        if kind == _ARRAY:
            self.skip_array()
            return None
        return self.text() if kind == _STRING else self.number(_SCALARS[kind])

    def skip_array(self) -> None:
        kind, count = self.number("I"), self.number("Q")
        if kind == _STRING:
            unpack, data, offset = struct.Struct("<Q").unpack_from, self.data, self.offset
            for _ in range(count):
                offset += 8 + unpack(data, offset)[0]
            self.offset = offset
        elif kind == _ARRAY:
            for _ in range(count):
                self.skip_array()
        else:
            self.offset += count * struct.calcsize(_SCALARS[kind])
