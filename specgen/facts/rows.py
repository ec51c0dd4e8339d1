"""The rows of the data, read and checked before anything is paid for: files line by line, synthetic rules rendered."""

from __future__ import annotations

import glob
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from conversations.row import Row, plain_row
from specgen.diagnostics import Diagnostic, Place
from specgen.facts.formats import READERS, turns_of
from specgen.plan import DataFile

MOST_FAULTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRows:
    """One data file: its rows in order, or what is wrong with them."""

    file: DataFile
    rows: tuple[Row, ...]
    faults: tuple[Diagnostic, ...]


def matching_files(pattern: str) -> list[str]:
    """The files that a path or a pattern names, sorted; relative to the working folder."""
    if Path(pattern).is_file():
        return [pattern]
    return sorted(match for match in glob.glob(pattern, recursive=True) if Path(match).is_file())  # noqa: PTH207  (absolute too)


def read_rows(path: str, form: str) -> FileRows:
    """Reads a JSON Lines file whose rows have one of the formats of formats.py.

    Byte order marks, CRLF and blank lines are no part of a row. Raises OSError where the file cannot be read.
    """
    content = Path(path).read_bytes()
    rows: list[Row] = []
    faults: list[Diagnostic] = []
    for line, text in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not text.strip():
            continue
        row = _read_row(text, path, line, form)
        if isinstance(row, str):
            rows.append(row)
        else:
            faults += row
    if not rows and not faults:
        faults.append(Diagnostic(code="SG206", message=f"{path} holds no rows"))
    if len(faults) > MOST_FAULTS:
        rest = Diagnostic(code="SG208", message=f"{path} has {len(faults) - MOST_FAULTS} more faults like these")
        faults = [*faults[:MOST_FAULTS], rest]
    file = DataFile(path=path, rows=len(rows), bad_rows=0, sha256=hashlib.sha256(content).hexdigest())
    return FileRows(file=file, rows=tuple(rows), faults=tuple(faults))


def fitting_format(path: str, form: str) -> str | None:
    """Another format, that the first rows of a file have without a fault; None where there is no such one."""
    rows: list[object] = []
    for text in Path(path).read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        if text.strip() and len(rows) < MOST_FAULTS:
            try:
                rows.append(json.loads(text))
            except (ValueError, RecursionError):
                return None
    others = [other for other in READERS if other != form]
    return next((other for other in others if rows and not any(turns_of(row, other)[1] for row in rows)), None)


def _read_row(text: bytes, path: str, line: int, form: str) -> Row | list[Diagnostic]:
    try:
        row = json.loads(text)
    except UnicodeDecodeError:
        return [Diagnostic(code="SG207", message="the line is not UTF-8", place=Place(file=path, line=line, column=1))]
    except (ValueError, RecursionError) as error:  # a plain ValueError is about digits
        other = "nested too deeply" if isinstance(error, RecursionError) else "a number has too many digits"
        column, problem = getattr(error, "colno", 1), getattr(error, "msg", other)
        hint = "a row is one JSON object on one line"
        return [
            Diagnostic(
                code="SG207", message=f"the line is not JSON: {problem}", place=Place(file=path, line=line, column=column), hint=hint
            )
        ]
    place = Place(file=path, line=line, column=1)
    turns, problems = turns_of(row, form)
    return [Diagnostic(code="SG208", message=problem, place=place) for problem in problems] or plain_row(turns)
