"""Prints faults: as text with the source under them, as JSON, and as annotations of a GitHub workflow. SARIF is in sarif.py."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import click

from specgen.diagnostics import Diagnostic, Place, Severity, from_root
from specgen.reading import regular
from specgen.sarif import as_sarif
from specgen.secrets import masked

Format = Literal["text", "json", "github", "sarif"]
Paint = Callable[..., str]

COLOURS: dict[Severity, str] = {"error": "red", "warning": "yellow", "note": "cyan"}
GITHUB_COMMANDS: dict[Severity, str] = {"error": "error", "warning": "warning", "note": "notice"}
MAX_EXCERPT_COLUMNS = 160
NO_CHARACTER = "\ufffd"


def printed(diagnostics: Sequence[Diagnostic], form: Format, *, root: Path) -> str:
    """Faults in one of the forms. `root` is the repository's folder: GitHub and SARIF name files from there."""
    text = _PRINTERS[form](diagnostics, root)
    return text.encode("utf-8", "backslashreplace").decode()  # a file's name may hold bytes that are no text


def as_text(diagnostics: Iterable[Diagnostic], *, colour: bool = False) -> str:
    """Every diagnostic as `place: severity CODE: message`, with the source line and a caret under it."""
    paint = click.style if colour else _unpainted
    return "\n".join(_one_as_text(d, paint) for d in diagnostics)


def summary(diagnostics: Sequence[Diagnostic]) -> str:
    """The line under a list of faults: how many, and where explanations are."""
    errors = sum(d.severity == "error" for d in diagnostics)
    code = next((d.code for d in diagnostics if d.severity == "error"), diagnostics[0].code)
    return f"{errors} error{'s' if errors != 1 else ''}. Explanation: specgen explain {code}"


def as_json(diagnostics: Iterable[Diagnostic]) -> list[dict[str, object]]:
    """Every diagnostic as a mapping; its `file`, `line`, `column` and `end_column` are null where there is no place;
    of a flag only `file` is known."""
    return [
        {
            "code": d.code,
            "severity": d.severity,
            "message": d.message,
            "hint": d.hint,
            **_place_as_json(d.place),
            "related": [{"message": text, **_place_as_json(place)} for place, text in d.related],
        }
        for d in diagnostics
    ]


def as_github(diagnostics: Iterable[Diagnostic], root: Path) -> str:
    """Every diagnostic as a workflow command: GitHub shows it beside the line in a pull request."""
    return "\n".join(_one_as_github(d, root) for d in diagnostics)


def _one_as_text(diagnostic: Diagnostic, paint: Paint) -> str:
    place, colour = diagnostic.place, COLOURS[diagnostic.severity]
    where = paint(f"{place}: ", bold=True) if place else ""
    lines = [f"{where}{paint(f'{diagnostic.severity} {diagnostic.code}:', fg=colour, bold=True)} {diagnostic.message}"]
    by_line: dict[tuple[str, int], list[tuple[Place, str]]] = {}
    for other, text in diagnostic.related:
        by_line.setdefault((other.file, other.line), []).append((other, text))
    if place:
        beside = by_line.get((place.file, place.line), [])
        lines += _excerpt(place, [other for other, _ in beside], paint, colour)
    for line, related in by_line.items():
        lines += [f"  {other}: {text}" for other, text in related]
        if not place or line != (place.file, place.line):
            lines += _excerpt(None, [other for other, _ in related], paint, colour)
    if diagnostic.hint:
        lines.append(f"  {paint('hint:', fg='green')} {diagnostic.hint}")
    return "\n".join(lines)


def _unpainted(text: str, **_: object) -> str:
    return text


def _excerpt(place: Place | None, beside: Sequence[Place], paint: Paint, colour: str) -> list[str]:
    """The line of `place` with carets under it, and dashes under the places beside it. All of them are on one line."""
    first = place or beside[0]
    source = _lines_of(first.file)
    if not 1 <= first.line <= len(source) or not source[first.line - 1].strip():
        return []
    line = source[first.line - 1].rstrip("\r")
    start, end = _window(len(line), first.column - 1)
    text = [_shown(character) for character in line[start:end]]
    marks = [" "] * (len(text) + 1)  # what is missing may be missing at the end of the line
    for marked in (*beside, *([place] if place else [])):
        begin = min(max(marked.column - 1 - start, 0), len(text))
        stop = max(begin + 1, min(marked.column - 1 + marked.width - start, len(text)))
        marks[begin:stop] = ("^" if marked is place else "-") * (stop - begin)
    under = "".join(mark * _cells(character) for mark, character in zip(marks, [*text, " "], strict=True)).rstrip()
    painted = re.sub(r"\^+|-+", lambda found: paint(found[0], fg=colour if found[0][0] == "^" else "blue", bold=True), under)
    before, after = "..." if start else "", "..." if end < len(line) else ""
    return [
        paint(f"{first.line:>5} |", fg="blue") + f" {before}{''.join(text)}{after}",
        paint("      |", fg="blue") + f" {' ' * len(before)}{painted}",
    ]


def _window(length: int, column: int) -> tuple[int, int]:
    """The part of a line that is shown, around a column."""
    start = max(0, min(column - MAX_EXCERPT_COLUMNS // 4, length - MAX_EXCERPT_COLUMNS))
    return start, min(length, start + MAX_EXCERPT_COLUMNS)


def _shown(character: str) -> str:
    """One character for one: a line that is shown cannot move the cursor or change colours."""
    return character if character.isprintable() else " " if character == "\t" else NO_CHARACTER


def _cells(character: str) -> int:
    """How many cells a character takes in a terminal."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


@cache
def _lines_of(file: str) -> tuple[str, ...]:
    try:
        return tuple(masked(regular(Path(file)).read_text(encoding="utf-8-sig")).split("\n"))
    except (OSError, ValueError):
        return ()


def _place_as_json(place: Place | None) -> dict[str, object]:
    if place is None or place.is_flag:
        return {"file": place.file if place else None, "line": None, "column": None, "end_column": None}
    return {"file": place.file, "line": place.line, "column": place.column, "end_column": place.column + place.width}


def _one_as_github(diagnostic: Diagnostic, root: Path) -> str:
    place = diagnostic.place
    properties: dict[str, object] = {}
    told = diagnostic.message
    if place and place.is_flag:
        told = f"{place}: {told}"
    elif place:
        line, column = place.line, place.column
        file = from_root(place.file, root)
        properties = {"file": file, "line": line, "endLine": line, "col": column, "endColumn": column + place.width}
    properties["title"] = diagnostic.code
    lines = [told, *(f"{other}: {text}" for other, text in diagnostic.related)]
    if diagnostic.hint:
        lines.append(f"hint: {diagnostic.hint}")
    written = ",".join(f"{key}={_escaped_property(str(value))}" for key, value in properties.items())
    return f"::{GITHUB_COMMANDS[diagnostic.severity]} {written}::{_escaped(chr(10).join(lines))}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escaped_property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")


def _as_lines(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


_PRINTERS: dict[Format, Callable[[Sequence[Diagnostic], Path], str]] = {
    "text": lambda diagnostics, root: as_text(diagnostics),
    "json": lambda diagnostics, root: _as_lines(as_json(diagnostics)),
    "github": as_github,
    "sarif": lambda diagnostics, root: _as_lines(as_sarif(diagnostics, root)),
}
