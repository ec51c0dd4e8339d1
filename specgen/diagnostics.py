"""The one type for faults. They are data until the command line prints them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from specgen.places import data_folder
from specgen.secrets import masked

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Place:
    """Where something stands: a file, line and column counted from 1, and its length in characters; or a flag."""

    file: str
    line: int
    column: int
    width: int = 1

    def __str__(self) -> str:
        return self.file if self.is_flag else f"{self.file}:{self.line}:{self.column}"

    @property
    def is_flag(self) -> bool:
        """Whether this is an option of the command line, such as `--set train.epochs=1`."""
        return self.file.startswith("--")


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One fault: what is wrong in a sentence, and what to write instead. `related` are other places that have a part in it."""

    code: str
    message: str
    place: Place | None = None
    hint: str | None = None
    severity: Severity = "error"
    related: tuple[tuple[Place, str], ...] = ()

    def __post_init__(self) -> None:
        """No secret is told, wherever the text comes from."""
        object.__setattr__(self, "message", masked(self.message))
        if self.hint is not None:
            object.__setattr__(self, "hint", masked(self.hint))


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


def from_root(file: str, root: Path) -> str:
    """A file as the repository names it: from its root, with slashes. A file outside of it keeps its whole path."""
    whole = Path(os.path.normpath(Path.cwd() / file))  # links stay as they are named
    return (whole.relative_to(root) if whole.is_relative_to(root) else whole).as_posix()


def printable(text: str) -> str:
    """Text on one line: what does not print is escaped."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What `specgen explain CODE` prints. `wrong` and `right` are examples."""

    code: str
    severity: Severity
    title: str
    why: str
    wrong: str
    right: str


def explanations() -> dict[str, Explanation]:
    """All codes of both packages, from schemas/diagnostics.yaml."""
    import yaml

    text = (data_folder("schemas") / "diagnostics.yaml").read_text(encoding="utf-8")
    return {code: Explanation(**{"code": code, "severity": "error", **entry}) for code, entry in yaml.safe_load(text).items()}
