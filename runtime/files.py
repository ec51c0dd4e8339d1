"""Files as runs write them: in a second place, and JSON that people read."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any


def linked(file: Path, target: Path) -> None:
    """The file in a second place, without a second copy where the disk can."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


def write_json(file: Path, content: dict[str, Any]) -> None:
    """An object, indented, every character as it is."""
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
