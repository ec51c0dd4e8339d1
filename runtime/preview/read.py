"""The rows of a source, read one by one: row 3 of a long file needs no more of it than its beginning."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from conversations.files import Numbered, chunks, parse
from conversations.formats import reader
from conversations.problems import BadFile
from conversations.row import Row, canonical
from runtime.config import Config, FileSource, HubSource, LlmSource, Source, SyntheticSource
from runtime.data.as_compiled import shape_of_source
from runtime.data.hub import conversations_of
from runtime.data.llm.rows import rows as llm_rows
from runtime.data.parts import called
from runtime.data.synthetic import rules_of, synthetic_rows
from runtime.faults import WRONG, RunFault

AT_ONCE = 100  # rows: a preview wants few


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A row of a source. `number` counts from 1; `place` is its file and line, where it has one; `called` is its name in messages."""

    number: int
    place: str | None
    called: str
    row: Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A source of a config, counted from 1, and how messages call it."""

    number: int
    name: str
    source: Source
    config: Config


def named_sources(config: Config) -> list[Named]:
    """The sources in the order of the spec."""
    numbered = enumerate(config.data.sources, start=1)
    return [Named(number=number, name=_name(source), source=source, config=config) for number, source in numbered]


def rows_of(named: Named) -> Iterator[Found]:
    """The rows of a source in its own order, each once: before limit, weight and share. Raises RunFault for a row that does not
    have the format."""
    source = named.source
    if isinstance(source, FileSource):
        yield from _rows_of_files(source, skips_bad=named.config.data.on_bad_row == "drop")
        return
    if isinstance(source, SyntheticSource):
        rows: Iterable[Row] = _synthetic(source, named.config)
    else:
        rows = _kept(source, named.config) if isinstance(source, LlmSource) else _of_hub(source, named.config)
    for number, row in enumerate(rows, start=1):
        yield Found(number=number, place=None, called=f"row {number} of {named.name}", row=row)


def _of_hub(source: HubSource, config: Config) -> Iterator[Row]:
    found = conversations_of(source, drop=config.data.on_bad_row == "drop")
    return (canonical(row) for row in found if not isinstance(row, list))


def _synthetic(source: SyntheticSource, config: Config) -> Iterator[Row]:
    seed = config.train.seed
    return map(canonical, synthetic_rows(source, seed=seed, rows_of=rules_of(config.data, seed=seed)))


def _kept(source: LlmSource, config: Config) -> Iterator[Row]:
    """What a model has written until now. Nothing is asked: a preview costs nothing."""
    seed = config.train.seed
    made = llm_rows(source, seed=seed, rows_of=rules_of(config.data, seed=seed), say=lambda _label, _text: None, asks=False)
    return map(canonical, made)


def _rows_of_files(source: FileSource, *, skips_bad: bool) -> Iterator[Found]:
    read, count = reader(shape_of_source(source)), itertools.count(1)
    for file in source.files:
        try:
            for line, row in _lines(file.path):
                conversation, problems = read(row)
                place = f"{file.path}:{line}"
                if not problems:
                    yield Found(number=next(count), place=place, called=place, row=canonical(conversation))
                elif not skips_bad:
                    raise RunFault("SG492", f"{place}: {'; '.join(problem.text for problem in problems)}", exit_code=WRONG)
        except OSError as error:
            hint = f"paths start at the working folder, {Path.cwd()}"
            raise RunFault("SG205", f"{file.path} cannot be read: {error.strerror}", hint, exit_code=WRONG) from None
        except BadFile as error:
            place = file.path if error.line is None else f"{file.path}:{error.line}"
            raise RunFault("SG492", f"{place}: {error.text}", error.hint, exit_code=WRONG) from None


def _lines(path: str) -> Iterator[Numbered]:
    for chunk in chunks(path, rows=AT_ONCE):
        yield from parse(chunk)


def _name(source: Source) -> str:
    if source.name is not None or isinstance(source, FileSource | HubSource):
        return called(source)
    variables = " x ".join(f"{name} ({len(values)})" if isinstance(values, tuple) else name for name, values in source.variables.items())
    return f"{source.TAG}: {variables}" if variables else source.TAG
