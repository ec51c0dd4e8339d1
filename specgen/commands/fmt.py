"""specgen fmt: the keys of specs in the order of the schema."""

from __future__ import annotations

from pathlib import Path

from specgen.diagnostics import Diagnostic, SpecError
from specgen.fmt import formatted
from specgen.source import read
from specgen.writing import write_whole


def fmt(specs: tuple[Path, ...], *, check: bool) -> tuple[list[Path], list[Diagnostic]]:
    """Formats specs in place, or with `check` only looks; returns those that differ, and the faults of those that do not parse."""
    changed: list[Path] = []
    faults: list[Diagnostic] = []
    for spec in specs:
        try:
            text = read(spec)
            result = formatted(text, str(spec))
        except SpecError as error:
            faults += error.diagnostics
            continue
        if result != text:
            changed.append(spec)
            if not check:
                _write(spec, result)
    return changed, faults


def _write(spec: Path, text: str) -> None:
    try:
        mode = spec.stat().st_mode
        write_whole(spec.resolve(), text)  # a link stays one
        spec.chmod(mode)
    except OSError as error:
        raise SpecError(Diagnostic(code="SG302", message=f"{spec} cannot be written: {error.strerror}")) from None
