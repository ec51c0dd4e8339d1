"""The one type for faults. They are data until the command line prints them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from specgen.places import data_folder

Severity = Literal["error", "warning", "note"]

MAX_EXCERPT_COLUMNS = 160


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Place:
    """Where something stands: a file, line and column counted from 1, and its length in characters; or a flag."""

    file: str
    line: int
    column: int
    width: int = 1

    def __str__(self) -> str:
        return self.file if self.file.startswith("--") else f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One fault: what is wrong in a sentence, and what to write instead. `related` are other places that have a part in it."""

    code: str
    message: str
    place: Place | None = None
    hint: str | None = None
    severity: Severity = "error"
    related: tuple[tuple[Place, str], ...] = ()


class SpecError(Exception):
    """Carries diagnostics to the edge. Raised for users' mistakes only."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        super().__init__("; ".join(d.message for d in diagnostics))
        self.diagnostics = diagnostics


def in_file_order(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Sorted by file and place, without repetitions; those without a place come last."""
    unique = dict.fromkeys(diagnostics)
    return sorted(unique, key=lambda d: (d.place is None, d.place.file if d.place else "", _position(d)))


def _position(diagnostic: Diagnostic) -> tuple[int, int, str]:
    place = diagnostic.place
    return (place.line, place.column, diagnostic.code) if place else (0, 0, diagnostic.code)


def as_text(diagnostics: Iterable[Diagnostic]) -> str:
    """Every diagnostic as `place: severity CODE: message`, with the source line and a caret under it."""
    return "\n".join(_one_as_text(d) for d in diagnostics)


def summary(diagnostics: list[Diagnostic]) -> str:
    """The line under a list of faults: how many, and where explanations are."""
    errors = sum(d.severity == "error" for d in diagnostics)
    code = next((d.code for d in diagnostics if d.severity == "error"), diagnostics[0].code)
    return f"{errors} error{'s' if errors != 1 else ''}. Explanation: specgen explain {code}"


def as_json(diagnostics: Iterable[Diagnostic]) -> list[dict[str, object]]:
    """Every diagnostic as a flat mapping; `file`, `line` and `column` are null where there is no place."""
    return [
        {
            "code": d.code,
            "severity": d.severity,
            "message": d.message,
            "hint": d.hint,
            "file": d.place.file if d.place else None,
            "line": d.place.line if d.place else None,
            "column": d.place.column if d.place else None,
        }
        for d in diagnostics
    ]


def _one_as_text(diagnostic: Diagnostic) -> str:
    where = f"{diagnostic.place}: " if diagnostic.place else ""
    lines = [f"{where}{diagnostic.severity} {diagnostic.code}: {diagnostic.message}"]
    if diagnostic.place:
        lines += _excerpt(diagnostic.place)
    for place, text in diagnostic.related:
        lines += [f"  {place}: {text}", *_excerpt(place)]
    if diagnostic.hint:
        lines.append(f"  hint: {diagnostic.hint}")
    return "\n".join(lines)


def printable(text: str) -> str:
    """Text on one line: what does not print is escaped."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def _excerpt(place: Place) -> list[str]:
    source = _lines_of(place.file)
    if not 1 <= place.line <= len(source):
        return []
    text = source[place.line - 1].rstrip("\r").replace("\t", " ")
    if not text.strip() or len(text) > MAX_EXCERPT_COLUMNS:
        return []
    width = max(1, min(place.width, len(text) - place.column + 1))
    return [f"{place.line:>5} | {text}", f"      | {' ' * (place.column - 1)}{'^' * width}"]


@cache
def _lines_of(file: str) -> tuple[str, ...]:
    try:
        return tuple(Path(file).read_text(encoding="utf-8-sig").split("\n"))
    except (OSError, ValueError):
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What `specgen explain CODE` prints. `wrong` and `right` are examples."""

    code: str
    title: str
    why: str
    wrong: str
    right: str


def explanations() -> dict[str, Explanation]:
    """All codes of both packages, from schemas/diagnostics.yaml."""
    import yaml

    text = (data_folder("schemas") / "diagnostics.yaml").read_text(encoding="utf-8")
    return {code: Explanation(code=code, **entry) for code, entry in yaml.safe_load(text).items()}
