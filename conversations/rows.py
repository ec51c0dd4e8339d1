"""The rows of a file as conversations: what is a file, and what is a format, put together."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from conversations.files import Chunk, chunks, parse
from conversations.formats import FORMATS, Shape, reader
from conversations.problems import Problem
from conversations.row import Conversation

FIRST = 20  # rows that are looked at to guess a format


def rows_of(path: str, shape: Shape) -> Iterator[tuple[int, Conversation | list[Problem]]]:
    """Every row, or what is wrong with it, with its line or row number. Raises OSError, and BadFile (problems.py)."""
    for chunk in chunks(path):
        yield from rows_of_chunk(chunk, shape)


def rows_of_chunk(chunk: Chunk, shape: Shape) -> Iterator[tuple[int, Conversation | list[Problem]]]:
    """The same of a part of a file."""
    read = reader(shape)
    for number, row in parse(chunk):
        conversation, problems = read(row)
        yield number, problems or conversation


def first_rows(path: str) -> list[object]:
    """The first rows of a file as they are, without those that cannot be read."""
    found = itertools.islice((row for chunk in chunks(path, rows=FIRST) for _, row in parse(chunk)), FIRST)
    return [row for row in found if not isinstance(row, Problem)]


def fitting_format(rows: list[object], form: str) -> str | None:
    """Another format, that all of these rows have without a fault; None where there is no such one."""
    others = [other for other in FORMATS if other != form]
    return next((other for other in others if rows and not any(reader(Shape(other))(row)[1] for row in rows)), None)
