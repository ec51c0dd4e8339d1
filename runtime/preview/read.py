"""The rows of a source, read one by one: row 3 of a long file needs no more of it than its beginning."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from conversations.row import Row, plain_row
from runtime.config import Config, FileSource, HubSource, LlmSource, Source, SyntheticSource
from runtime.data.formats import turns_of
from runtime.data.hub import name_of as hub_name
from runtime.data.hub import read_hub
from runtime.data.sources import _synthetic
from runtime.faults import WRONG, RunFault


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A row of a source. `number` counts from 1; `place` is its file and line, where it has one; `called` is its name in messages."""

    number: int
    place: str | None
    called: str
    row: Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A source, counted from 1, and how messages call it."""

    number: int
    name: str
    source: Source


def named_sources(config: Config) -> list[Named]:
    """The sources in the order of the spec."""
    return [Named(number=number, name=_name(source), source=source) for number, source in enumerate(config.data.sources, start=1)]


def rows_of(named: Named) -> Iterator[Found]:
    """The rows of a source in its own order, each once: before limit, weight and share. Raises RunFault for a row that does not
    have the format."""
    source = named.source
    if isinstance(source, FileSource):
        yield from _rows_of_files(source)
        return
    rows = _synthetic(source) if isinstance(source, SyntheticSource) else _hub(source)
    for number, row in enumerate(rows, start=1):
        yield Found(number=number, place=None, called=f"row {number} of {named.name}", row=row)


def _hub(source: HubSource | LlmSource) -> list[Row]:
    assert isinstance(source, HubSource), "not made yet"
    return read_hub(source)


def _rows_of_files(source: FileSource) -> Iterator[Found]:
    number = 0
    for file in source.files:
        try:
            with Path(file.path).open(encoding="utf-8-sig") as stream:
                for line_number, line in enumerate(stream, start=1):
                    if line.strip():
                        number += 1
                        place = f"{file.path}:{line_number}"
                        yield Found(number=number, place=place, called=place, row=_row(line, source, place))
        except OSError as error:
            hint = f"paths start at the working folder, {Path.cwd()}"
            raise RunFault("SG205", f"{file.path} cannot be read: {error.strerror}", hint, exit_code=WRONG) from None


def _row(line: str, source: FileSource, place: str) -> Row:
    turns, problems = turns_of(json.loads(line), source.format)
    if problems:
        raise RunFault("SG492", f"{place}: {'; '.join(problems)}", exit_code=WRONG)
    return plain_row(turns)


def _name(source: Source) -> str:
    if source.name is not None:
        return source.name
    if isinstance(source, FileSource):
        return ", ".join(file.path for file in source.files)
    if isinstance(source, HubSource):
        return hub_name(source)
    variables = " x ".join(f"{name} ({len(values)})" if isinstance(values, tuple) else name for name, values in source.variables.items())
    return f"{source.TAG}: {variables}" if variables else source.TAG
