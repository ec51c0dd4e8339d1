"""Files that a spec names are files: a pipe would make a command wait, and a device has no end."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def regular(path: Path) -> Path:
    """The path, where a file or a folder is there. Raises OSError for a pipe, a socket or a device, too."""
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a file")
    return path


def is_there(path: Path) -> bool:
    """Whether something is there, as far as one may look."""
    return os.path.exists(path)  # noqa: PTH110  (Path's raises for a name that is too long, and where one may not look)


def is_folder(path: Path) -> bool:
    """Whether a folder is there, as far as one may look."""
    return os.path.isdir(path)  # noqa: PTH112  (as above)
