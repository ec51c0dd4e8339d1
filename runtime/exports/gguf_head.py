"""What a GGUF file says of the model in general: its first key-values, up to the tokenizer. Format: ggml's docs/gguf.md."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of a number, by its type
_TEXT, _ARRAY = 8, 9
MOST_BYTES = 1_000_000  # of a text


def general_texts(file: Path) -> dict[str, str]:
    """The texts that it has before its tokenizer, by key: general.license and others. Empty where it is no GGUF file."""
    found: dict[str, str] = {}
    try:
        with file.open("rb") as stream:
            if stream.read(4) != b"GGUF":
                return {}
            _version, _tensors, count = struct.unpack("<IQQ", stream.read(20))
            for _ in range(count):
                key, (kind,) = _text(stream), struct.unpack("<I", stream.read(4))
                if key.startswith("tokenizer."):
                    break
                if kind == _TEXT:
                    found[key] = _text(stream)
                else:
                    _skip(stream, kind)
    except (OSError, ValueError, KeyError, struct.error):
        return found
    return found


def _text(stream: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", stream.read(8))
    if length > MOST_BYTES:
        raise ValueError(length)
    return stream.read(length).decode("utf-8")


def _skip(stream: BinaryIO, kind: int) -> None:
    if kind != _ARRAY:
        stream.seek(_SIZES[kind], 1)
        return
    inner, count = struct.unpack("<IQ", stream.read(12))
    if inner == _TEXT:
        for _ in range(count):
            _text(stream)
    else:
        stream.seek(_SIZES[inner] * count, 1)
