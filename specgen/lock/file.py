"""The lock file as text: written in one form only, with a checksum at its end, and read back strictly."""

from __future__ import annotations

import hashlib
import json
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from specgen.diagnostics import Diagnostic, Place, SpecError
from specgen.lock.contents import Lock
from specgen.lock.typed import build
from specgen.plan import to_plain
from specgen.quoting import block, comment
from specgen.reading import is_there
from specgen.source import parse
from specgen.source import read as read_text
from specgen.writing import write_whole


def read(path: Path) -> Lock | None:
    """A lock file, or None where there is none. Raises SpecError where it is no lock file of this version, whole and unedited."""
    if not is_there(path):
        return None
    try:
        plain = parse(read_text(path), str(path)).plain()
    except SpecError as error:
        raise broken(path, f"it is not YAML as specgen writes it: {error.diagnostics[0].message}") from None
    if not isinstance(plain, dict) or "lock" not in plain:
        raise broken(path, "it is no lock file")
    if plain["lock"] != 1:
        raise broken(path, f"it is of version {plain['lock']}; this specgen reads version 1")
    checksum = plain.pop("checksum", None)
    try:
        lock: Lock = build(Lock, plain, "")
    except (TypeError, ValueError) as error:
        raise broken(path, str(error)) from None
    if checksum != _checksum(plain):
        raise broken(path, "it was changed by hand, or cut off: its checksum is another one")
    return lock


def broken(path: Path, what: str) -> SpecError:
    """The fault of a lock file that cannot be used."""
    place = Place(file=str(path), line=1, column=1)
    hint = "bring back the committed file, or make it again with specgen lock"
    return SpecError(Diagnostic(code="SG291", message=f"the lock file cannot be used: {what}", place=place, hint=hint))


def write(lock: Lock, path: Path) -> None:
    """Writes a lock file, whole or not at all. Raises SpecError where it may not be written."""
    try:
        write_whole(path, text_of(lock))
    except OSError as error:
        raise SpecError(Diagnostic(code="SG302", message=f"{path} cannot be written: {error.strerror}")) from None


def text_of(lock: Lock) -> str:
    """The lock as YAML. The same lock is the same text everywhere."""
    optional = {field.name for field in fields(lock) if field.default is not MISSING}
    plain = {name: value for name, value in to_plain(lock).items() if value or name not in optional}
    head = (
        f"# What '{comment(lock.name)}' is made from, down to the byte. Written by specgen lock; do not edit.\n"
        "# specgen run and specgen compile --locked refuse anything else. What is meant to change is renewed with\n"
        "#   specgen lock SPEC --update base|tokenizer|template|data|libraries\n"
    )
    return head + block({**plain, "checksum": _checksum(plain)}, 0) + "\n"


def section(path: Path, name: str) -> Place | None:
    """Where a section of a lock file starts."""
    lines = path.read_text(encoding="utf-8").splitlines()
    number = next((number for number, line in enumerate(lines, start=1) if line.startswith(f"{name}:")), None)
    return None if number is None else Place(file=str(path), line=number, column=1, width=len(name))


def _checksum(plain: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
