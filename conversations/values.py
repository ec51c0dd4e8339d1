"""The values that a file holds for a variable of a rule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from conversations.files import chunks, parse, text_lines
from conversations.kinds import describe
from conversations.problems import BadFile, Problem, in_words


def file_values(path: str) -> list[Any]:
    """A text's lines without blank ones, or the rows of JSON, JSON Lines, CSV, Parquet or Arrow: mappings, texts, numbers or booleans.

    Raises OSError, and BadFile for a file or a row that is no such thing.
    """
    if describe(path)[0] == "text":
        return [line.strip() for _, line in text_lines(path)]
    return list(_rows(path))


def _rows(path: str) -> Iterator[Any]:
    for chunk in chunks(path):
        for number, row in parse(chunk):
            if isinstance(row, Problem):
                raise BadFile("syntax", row.text, line=number)
            if row is None or isinstance(row, list):
                raise BadFile("shape", f"the row is {in_words(row)}, which is no value", line=number)
            yield row
