"""How faults are printed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click

from specgen.diagnostics import Diagnostic, SpecError
from specgen.exits import WRONG
from specgen.printers import Format, as_text, printed, summary


class FaultsInForm(click.ClickException):
    """Faults that end a command whose output has another form than text; click shows them as it shows its own."""

    exit_code = WRONG

    def __init__(self, diagnostics: Sequence[Diagnostic], form: Format) -> None:
        super().__init__("")
        self.diagnostics, self.form = diagnostics, form

    def show(self, file: IO[Any] | None = None) -> None:
        """Prints them to standard output, where the form is asked for."""
        print_as(self.diagnostics, self.form)


@contextmanager
def faults_as(form: Format) -> Iterator[None]:
    """Faults that end a command come out in the form of its other output."""
    try:
        yield
    except SpecError as error:
        raise error if form == "text" else FaultsInForm(error.diagnostics, form) from None


def print_as(diagnostics: Sequence[Diagnostic], form: Format) -> None:
    """Faults to standard output, for programs."""
    root = Path(os.environ.get("GITHUB_WORKSPACE") or Path.cwd())
    if text := printed(diagnostics, form, root=root):
        click.echo(text)


def print_diagnostics(diagnostics: Sequence[Diagnostic]) -> None:
    """Faults as text to standard error, in colour on a terminal."""
    if diagnostics:
        colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
        click.echo(as_text(diagnostics, colour=colour), err=True)


def print_end(diagnostics: Sequence[Diagnostic]) -> None:
    """Faults as text, then a line that counts the errors."""
    print_diagnostics(diagnostics)
    click.echo(summary(diagnostics), err=True)


def print_checked(spec: Path, diagnostics: Sequence[Diagnostic], *, notes: bool = True) -> None:
    """The faults of a spec, then a line that counts them. Without `notes` these are only counted."""
    print_diagnostics([diagnostic for diagnostic in diagnostics if notes or diagnostic.severity != "note"])
    if has_error(diagnostics):
        click.echo(summary(diagnostics), err=True)
        return
    counts = [(sum(diagnostic.severity == severity for diagnostic in diagnostics), severity) for severity in ("warning", "note")]
    found = "".join(f", {count(number, severity)}" for number, severity in counts if number)
    click.echo(f"{spec}  valid · 0 errors{found}" + (f" (specgen explain {diagnostics[0].code})" if diagnostics else ""))


def has_error(diagnostics: Sequence[Diagnostic]) -> bool:
    """Whether one of them is more than a warning."""
    return any(diagnostic.severity == "error" for diagnostic in diagnostics)


def count(number: int, word: str) -> str:
    """`1 spec`, `2 specs`."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
