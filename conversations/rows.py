"""The rows of a file as conversations: what is a file, and what is a format, put together."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator

from conversations.chat_formats import LISTS
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


def fitting_format(rows: list[object], form: str, images: str | None = None) -> str | None:
    """Another format, that all of these rows have without a fault; None where there is no such one. `images` is as in a Shape."""
    shapes = [Shape(other, images=images) for other in FORMATS if other != form]
    return next((shape.format for shape in shapes if rows and not any(reader(shape)(row)[1] for row in rows)), None)


def missing_column(rows: list[object], shape: Shape) -> tuple[str, list[str], str | None] | None:
    """A column that the format needs and none of these rows has: its name, the columns that there are, and the one that may be
    meant. None where there is no such column, or a row template names the columns."""
    objects = [row for row in rows if isinstance(row, dict)]
    if not objects or len(objects) < len(rows) or shape.row is not None:
        return None
    names = dict(shape.fields)
    columns = list(dict.fromkeys(str(column) for row in objects for column in row))
    for needed in FORMATS[shape.format].needs:
        name = names.get(needed, needed)
        if name not in columns:
            used = {names.get(other, other) for other in FORMATS[shape.format].needs}
            return name, columns, _meant(name, [column for column in columns if column not in used], objects[0])
    return None


def _meant(name: str, columns: list[str], row: dict[str, object]) -> str | None:
    """A column of nearly that name; or, for a list of messages, the only one that is a list of objects."""
    lower = {column.lower(): column for column in columns}
    if near := difflib.get_close_matches(name.lower(), lower, n=1):
        return lower[near[0]]
    lists = [column for column in columns if isinstance(value := row.get(column), list) and value and isinstance(value[0], dict)]
    return lists[0] if name in LISTS and len(lists) == 1 else None
