"""The rows of sources in parts: made cheaply here, read and tokenized by whoever gets one. Memory does not grow with the rows.

The compiler has checked every row of a file, which is read only while its SHA-256 is what the compiler saw.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from conversations.files import Chunk, chunks
from conversations.formats import Shape
from conversations.problems import BadFile, Problem
from conversations.row import Conversation
from conversations.rows import rows_of_chunk
from conversations.rules import RowsOf
from runtime.config import FileSource, HubSource, LlmSource, Source, SyntheticSource
from runtime.data.as_compiled import require_unchanged, shape_of_source
from runtime.data.hub import conversations_of
from runtime.data.hub import name_of as hub_name
from runtime.data.llm.rows import rows as llm_rows
from runtime.data.synthetic import synthetic_rows
from runtime.faults import WRONG, RunFault

ROWS = 1000  # of a part
BYTES = 1 << 20  # of the lines of a part: long rows come in smaller parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some rows of the source number `source`, which are called by `name` in messages. `shape` says how a Chunk is read; `first` is
    the number of the first of other rows."""

    source: int
    name: str
    first: int = 1
    rows: Chunk | list[Conversation | list[Problem]]
    shape: Shape | None

    def __iter__(self) -> Iterator[tuple[int, Conversation | list[Problem]]]:
        """Each row with its number, or what is wrong with it."""
        if isinstance(self.rows, Chunk):
            assert self.shape is not None
            return rows_of_chunk(self.rows, self.shape)
        return enumerate(self.rows, start=self.first)


def parts_of(source: Source, number: int, *, seed: int, rows_of: RowsOf, drop: bool = False) -> Iterator[Part]:
    """The rows of a source; with `drop`, rows that do not have their format are among them as what is wrong with them.

    Raises RunFault where it is not to be had.
    """
    if isinstance(source, FileSource):
        shape = shape_of_source(source)
        for file in source.files:
            require_unchanged(file.path, file.sha256)
            for chunk in _chunks(file.path):
                yield Part(source=number, name=file.path, rows=chunk, shape=shape)
        return
    found, first = iter(_conversations(source, seed, rows_of, drop=drop)), 1
    while some := list(itertools.islice(found, ROWS)):
        yield Part(source=number, name=called(source), first=first, rows=some, shape=None)
        first += len(some)


def called(source: Source) -> str:
    """What messages call a source."""
    if source.name is not None:
        return source.name
    if isinstance(source, FileSource):
        return ", ".join(file.path for file in source.files)
    return hub_name(source) if isinstance(source, HubSource) else source.TAG


def _conversations(
    source: SyntheticSource | HubSource | LlmSource, seed: int, rows_of: RowsOf, *, drop: bool
) -> Iterable[Conversation | list[Problem]]:
    if isinstance(source, SyntheticSource):
        return synthetic_rows(source, seed=seed, rows_of=rows_of)
    if isinstance(source, LlmSource):
        return llm_rows(source, seed=seed, rows_of=rows_of)
    return conversations_of(source, drop=drop)


def _chunks(path: str) -> Iterator[Chunk]:
    try:
        for chunk in chunks(path, rows=ROWS):
            yield from _small(chunk)
    except BadFile as error:
        raise RunFault("SG205", f"{path}: {error.text}", error.hint, exit_code=WRONG) from None


def _small(chunk: Chunk) -> Iterator[Chunk]:
    """A chunk of lines in chunks of about BYTES."""
    if chunk.kind != "jsonl" or sum(map(len, chunk.rows)) <= BYTES:
        yield chunk
        return
    start = size = 0
    for index, line in enumerate(chunk.rows):
        size += len(line)
        if size >= BYTES or index + 1 == len(chunk.rows):
            yield Chunk(chunk.kind, chunk.first + start, chunk.rows[start : index + 1])
            start, size = index + 1, 0
