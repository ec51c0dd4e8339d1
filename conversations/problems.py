"""What can be wrong with a row, and with a whole file. `conversations` knows no diagnostics: its callers make them of these."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """A fault of one row. `kind` groups like faults; `path` is where in the row; `text` is the whole sentence.

    `unread` says that no row could be made of the line at all; `column` is where in the line, from 1.
    """

    kind: str
    path: str
    text: str
    unread: bool = False
    column: int = 1


def unread(kind: str, text: str, column: int = 1) -> Problem:
    """The fault of a line of which no row can be made."""
    return Problem(kind, "", text, unread=True, column=column)


class BadFile(Exception):
    """A file of which nothing, or nothing more, can be read. `line` is where, from 1, as far as that is known.

    `what` is one of: syntax (it is not what it says), damaged (it is cut off or broken), encoding (it is no UTF-8), library
    (it needs pyarrow, which is not installed), shape (its rows have no columns that can be told apart).
    """

    def __init__(self, what: str, text: str, *, line: int | None = None, hint: str | None = None) -> None:
        super().__init__(text)
        self.what, self.text, self.line, self.hint = what, text, line, hint


def kind_of(value: object) -> str:
    """What a value is, for grouping: `a number` whatever the number."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    return in_words(value)


def in_words(value: object) -> str:
    """What a value is, for a sentence; numbers and booleans are told as they are."""
    if value is None:
        return "null"
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, str):
        return "text"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bytes):
        return "bytes"
    return "an object" if isinstance(value, dict) else f"a {type(value).__name__}"
