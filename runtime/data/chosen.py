"""How often each row counts, and which rows are held out of training: limit, weight and share, then validation.

The arithmetic and the chance are the compiler's (conversations/mixing.py), on columns of numbers: 8 bytes to a row here, and none of
its text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from conversations.mixing import Mix, counts, held_out, number_held_out, totals
from runtime.config import DataConfig, Source, SyntheticSource

Numbers = NDArray[np.int64]
Digests = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """How often each row counts in training and in validation, [R]. `by_source` are the rows of the training sources before
    validation takes its part, and `validation_sources` those of validation's own; `held_distinct` counts distinct held rows."""

    train: Numbers
    validation: Numbers
    by_source: list[int]
    validation_sources: list[int]
    held_distinct: int

    @property
    def rows(self) -> int:
        """All rows of the training sources."""
        return sum(self.by_source)


def chosen(data: DataConfig, rows: Sequence[int], digests_R: Digests, *, seed: int) -> Chosen:
    """`rows` are those of each source, validation's own last."""
    validation = data.validation
    own = len(data.sources)
    often, by_source = often_of(data.sources, rows[:own], seed)
    often_own, validation_sources = often_of(validation.sources if validation else (), rows[own:], seed)
    trained = len(often)
    train_R = np.concatenate([often, np.zeros_like(often_own)])
    validation_R = np.concatenate([np.zeros_like(often), often_own])
    held: Digests
    if validation_sources:
        held = np.unique(digests_R[trained:])
        held_distinct = len(np.unique(digests_R[validation_R > 0]))
    else:
        held = _held(data, np.unique(digests_R[train_R > 0]), seed)
        held_distinct = len(held)
    if len(held):
        is_held = np.isin(digests_R, held)
        if not validation_sources:
            validation_R = np.where(is_held, train_R, 0)
        train_R[is_held] = 0
    return Chosen(
        train=train_R, validation=validation_R, by_source=by_source, validation_sources=validation_sources, held_distinct=held_distinct
    )


def often_of(sources: Sequence[Source], rows: Sequence[int], seed: int) -> tuple[Numbers, list[int]]:
    """How often each row of some sources counts, and how many rows that are for each source."""
    mixes = [_mix(source, number) for source, number in zip(sources, rows, strict=True)]
    numbers = totals(mixes) if mixes else []
    often = [np.frombuffer(counts(mix.rows, total, seed, mix.limit), dtype=np.uint32) for mix, total in zip(mixes, numbers, strict=True)]
    return np.concatenate([np.zeros(0, np.int64), *often]).astype(np.int64), numbers


def _mix(source: Source, rows: int) -> Mix:
    weight = source.repeat if isinstance(source, SyntheticSource) else source.weight
    return Mix(rows=rows, weight=weight, share=source.share, limit=source.limit)


def _held(data: DataConfig, distinct: Digests, seed: int) -> Digests:
    validation = data.validation
    if validation is None or not len(distinct):
        return np.zeros(0, dtype=np.uint64)
    number = number_held_out(len(distinct), fraction=validation.fraction, count=validation.count)
    return np.array(sorted(held_out(map(int, distinct), number, seed)), dtype=np.uint64)
