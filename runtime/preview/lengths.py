"""How long rows are: percentiles and a histogram whose bars break at max_length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from runtime.data.figures import SHARES, percentile

MOST_BARS = 12
SAMPLE = 2000  # rows whose lengths are measured: of a source, or of all that a report is about


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Rows of `first` to `last` tokens. `over`: longer than max_length."""

    first: int
    last: int
    rows: int
    over: bool

    @property
    def span(self) -> str:
        """The bar's lengths in words."""
        return f"{self.first:,}" if self.first == self.last else f"{self.first:,}–{self.last:,}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Tokens of rows, each row counted once. `most`: no more of a source were measured; None where no source has more."""

    rows: int
    most: int | None
    percentiles: dict[str, int]
    max_length: int
    over: int
    bars: tuple[Bar, ...]


def lengths_of(by_source: Sequence[Sequence[int]], *, most: int, max_length: int) -> Lengths | None:
    """Figures of the lengths of at most `most` rows of each source; None where there are no rows."""
    ordered = sorted(length for lengths in by_source for length in lengths)
    if not ordered:
        return None
    return Lengths(
        rows=len(ordered),
        most=most if any(len(lengths) == most for lengths in by_source) else None,
        percentiles={name: percentile(ordered, share) for name, share in SHARES.items()} | {"longest": ordered[-1]},
        max_length=max_length,
        over=sum(length > max_length for length in ordered),
        bars=tuple(_bars(ordered, max_length)),
    )


def _bars(ordered: Sequence[int], max_length: int) -> list[Bar]:
    """Bars of one round width; one of them ends at max_length where rows are longer than that."""
    width = _width((ordered[-1] - ordered[0]) / MOST_BARS)
    begin = (ordered[0] - 1) // width * width
    edges = list(range(begin, ordered[-1] + width, width))
    if ordered[0] <= max_length < ordered[-1] and max_length not in edges:
        edges = sorted({*edges, max_length})
    counts = dict.fromkeys(edges[1:], 0)
    ends = iter(edges[1:])
    end = next(ends)
    for length in ordered:
        while length > end:
            end = next(ends)
        counts[end] += 1
    return [Bar(first=first + 1, last=last, rows=counts[last], over=first >= max_length) for first, last in pairwise(edges)]


def _width(least: float) -> int:
    """The next of 1, 2, 4, 8, 16, 32, … : lengths that people think in are made of these."""
    width = 1
    while width < least:
        width *= 2
    return width


def as_data(lengths: Lengths) -> dict[str, Any]:
    """The figures for other programs."""
    bars = [{"first": bar.first, "last": bar.last, "rows": bar.rows} for bar in lengths.bars]
    return {
        "rows": lengths.rows,
        "most_of_each_source": lengths.most,
        **lengths.percentiles,
        "max_length": lengths.max_length,
        "over": lengths.over,
        "histogram": bars,
    }
