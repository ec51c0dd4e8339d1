"""Files are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def write_whole(file: Path, content: str | bytes) -> None:
    """Writes a file, whole or not at all; one that says the same already is left alone. Raises OSError."""
    data = content.encode() if isinstance(content, str) else content
    if file.is_file() and file.read_bytes() == data:
        return
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        partial.write_bytes(data)
        if file.suffix in (".sh", ".sbatch"):
            partial.chmod(0o755)
        partial.replace(file)
    finally:
        with contextlib.suppress(OSError):  # why it could not be written is told, not that nothing is to be tidied up
            partial.unlink(missing_ok=True)
