"""Files in a second place."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def linked(file: Path, target: Path) -> None:
    """The file in a second place, without a second copy where the disk can."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)
