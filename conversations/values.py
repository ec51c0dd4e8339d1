"""The values that a file holds for a variable of a rule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def file_values(path: str) -> list[Any]:
    """A text's lines without blank ones, or the rows of JSON Lines. Raises OSError; ValueError with what is wrong with a row."""
    content = Path(path).read_bytes().removeprefix(b"\xef\xbb\xbf")
    try:
        lines = [line.strip() for line in content.decode("utf-8").split("\n")]
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None
    if not content.lstrip().startswith(b"{"):
        return [line for line in lines if line]
    return [_parsed(line, number) for number, line in enumerate(lines, start=1) if line]


def _parsed(line: str, number: int) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        problem = getattr(error, "msg", "nested too deeply or a number with too many digits")
        raise ValueError(f"line {number} is not JSON: {problem}") from None
