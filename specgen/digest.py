"""SHA-256 of a file that is open. hashlib.file_digest is the same, from Python 3.11 on; the compiler runs on 3.10, too."""

from __future__ import annotations

import hashlib
from io import BufferedReader

CHUNK = 1 << 18  # bytes


def sha256_of(stream: BufferedReader) -> str:
    """The hash of the rest of a file, in hex. Raises OSError."""
    found, buffer = hashlib.sha256(), memoryview(bytearray(CHUNK))
    while size := stream.readinto(buffer):
        found.update(buffer[:size])
    return found.hexdigest()
