"""The rows of all sources and how often each counts, as the data stage has them: for tests that compare them with the compiler's."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from conversations.row import canonical, digest
from runtime.data.chosen import chosen
from runtime.data.parts import parts_of
from runtime.data.synthetic import rules_of


@dataclass(frozen=True)
class Gathered:
    """How often each distinct row counts, in the order of the sources; those held out; and the rows of each source."""

    counts: Counter[str]
    held: frozenset[str]
    by_source: tuple[int, ...]


def read_sources(data, *, seed):
    """All rows, read in parts and mixed."""
    rows_of, rows, numbers = rules_of(data, seed=seed), [], []
    for number, source in enumerate([*data.sources, *(data.validation.sources if data.validation else ())]):
        own = [canonical(row) for part in parts_of(source, number, seed=seed, rows_of=rows_of) for _, row in part]
        rows += own
        numbers.append(len(own))
    picked = chosen(data, numbers, np.array([digest(row) for row in rows], dtype=np.uint64), seed=seed)
    counts = Counter()
    for row, often in zip(rows, (picked.train + picked.validation).tolist(), strict=True):
        counts[row] += often
    held = frozenset(row for row, often in zip(rows, picked.validation, strict=True) if often)
    return Gathered(+counts, held, tuple(picked.by_source))
