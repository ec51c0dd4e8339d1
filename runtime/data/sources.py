"""The conversations that the config names, as distinct rows with how often each counts.

The compiler has checked every row of a file, which is read only while its SHA-256 is what the compiler saw.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from conversations.formats import Shape
from conversations.mixing import Mix, held_out, number_held_out, totals
from conversations.mixing import counts as counts_of_rows
from conversations.problems import BadFile
from conversations.row import Row, canonical, digest
from conversations.rows import rows_of as rows_of_file
from conversations.rules import RowsOf
from runtime.config import DataConfig, HubSource, LlmSource, Source, SyntheticSource
from runtime.data.hub import read_hub, shape_of_source
from runtime.data.llm.rows import rows as llm_rows
from runtime.data.synthetic import rules_of, synthetic_rows, unchanged
from runtime.faults import WRONG, RunFault


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """All rows: how often each distinct one counts, in the order of the sources; those held out for validation; and how many
    rows, with repetitions, each source gives."""

    counts: Counter[Row]
    held: frozenset[Row]
    by_source: tuple[int, ...]


def read_sources(data: DataConfig, *, seed: int) -> Gathered:
    """The rows of all sources. Raises RunFault where one is not to be had."""
    rows_of = rules_of(data, seed=seed)
    found = _mixed(data.sources, seed, rows_of)
    counts = sum(found, Counter())
    validation = data.validation
    if validation is None or not counts:
        held: set[Row] = set()
    elif validation.sources:
        held = set(sum(_mixed(validation.sources, seed, rows_of), Counter()))
    else:
        number = number_held_out(len(counts), fraction=validation.fraction, count=validation.count)
        digests = held_out(map(digest, counts), number, seed)
        held = {row for row in counts if digest(row) in digests}
    return Gathered(counts=counts, held=frozenset(held), by_source=tuple(source.total() for source in found))


def _mixed(sources: Sequence[Source], seed: int, rows_of: RowsOf) -> list[Counter[Row]]:
    """How often each row of each source counts, after limit, weight and share."""
    rows = [list(_rows_of(source, seed, rows_of)) for source in sources]
    mixes = [_mix(source, len(own)) for source, own in zip(sources, rows, strict=True)]
    found = []
    for own, mix, total in zip(rows, mixes, totals(mixes), strict=True):
        often: Counter[Row] = Counter()
        for row, count in zip(own, counts_of_rows(mix.rows, total, seed, mix.limit), strict=True):
            often[row] += count
        found.append(+often)
    return found


def _mix(source: Source, rows: int) -> Mix:
    weight = source.repeat if isinstance(source, SyntheticSource) else source.weight
    return Mix(rows=rows, weight=weight, share=source.share, limit=source.limit)


def _rows_of(source: Source, seed: int, rows_of: RowsOf) -> Iterable[Row]:
    if isinstance(source, SyntheticSource):
        return map(canonical, synthetic_rows(source, seed=seed, rows_of=rows_of))
    if isinstance(source, HubSource):
        return read_hub(source)
    if isinstance(source, LlmSource):
        return map(canonical, llm_rows(source, seed=seed, rows_of=rows_of))
    shape = shape_of_source(source)
    return (row for file in source.files for row in _file(file.path, file.sha256, shape))


def _file(path: str, sha256: str, shape: Shape) -> Iterator[Row]:
    unchanged(path, sha256)
    try:  # the compiler has told the faults of these very bytes; where rows may be left out, it has counted them
        yield from (canonical(row) for _, row in rows_of_file(path, shape) if not isinstance(row, list))
    except BadFile as error:  # pyarrow may be on another machine only
        raise RunFault("SG205", f"{path}: {error.text}", error.hint, exit_code=WRONG) from None
