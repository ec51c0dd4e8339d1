"""What the compiler has settled of files and data sets: how their rows are read, and that a file is still the one that it has seen."""

from __future__ import annotations

import hashlib
from pathlib import Path

from conversations.formats import Shape, shape_of
from conversations.images import ON_HUB
from runtime.config import FileSource, HubSource
from runtime.faults import WRONG, RunFault


def shape_of_source(source: FileSource | HubSource) -> Shape:
    """How the rows of a source are read."""
    row: str | list[dict[str, str]] | None
    row = source.row if source.row is None or isinstance(source.row, str) else [{str(turn.role): turn.content} for turn in source.row]
    if isinstance(source, FileSource):
        return shape_of(source.format, source.fields, row, images=source.images)
    return shape_of(source.format, source.fields, row, no_images=ON_HUB)


def require_unchanged(path: str, sha256: str) -> None:
    """Raises RunFault where a file is not the one that the compiler has seen, or not to be had."""
    try:
        with Path(path).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        hint = f"paths start at the working folder, {Path.cwd()}"
        raise RunFault("SG205", f"{path} cannot be read: {error.strerror}", hint, exit_code=WRONG) from None
    if found != sha256:
        raise RunFault("SG423", f"{path} has changed since the spec was compiled", "compile the spec again", exit_code=WRONG)
