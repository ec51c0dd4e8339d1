"""How many rows come from each source, which of them, and which are held out for validation.

Rows of a source: `limit` first, then `weight` or `share`. Which rows are taken is chosen by the seed (conversations/chance.py), so
that the same spec takes the same rows on every machine. Two million rows take about a second and 30 MB.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from conversations.chance import first_shuffled
from conversations.row import digest

MASK = (1 << 64) - 1
SUM_TOLERANCE = Fraction(1, 10**6)  # thirds are written 0.333333


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """A source of `rows` rows. `share` takes the place of `weight`; `limit` comes before both."""

    rows: int
    weight: float
    share: float | None
    limit: int | None

    @property
    def kept(self) -> int:
        """Rows that `limit` leaves."""
        return self.rows if self.limit is None else min(self.rows, self.limit)


def shares_fault(shares: Sequence[float | None]) -> str | None:
    """Why the shares of the sources do not go together, or None. Where some sources have none, these need room beside the
    others; where all have one they are the whole."""
    given = [_exact(share) for share in shares if share is not None]
    added = sum(given, Fraction(0))
    if not given:
        return None
    if len(given) == len(shares):
        return None if abs(added - 1) <= SUM_TOLERANCE else f"the shares add up to {float(added):g}, and have to add up to 1"
    return None if added < 1 else f"the shares add up to {float(added):g}: nothing is left for the sources that have none"


def totals(sources: Sequence[Mix]) -> list[int]:
    """How many rows each source gives, repetitions counted.

    Sources without a share keep their rows F, so that all together are F / (1 - sum of shares). Where all have a share, all
    together are the most for which no source repeats a row. The rows of sources with a share are within one of their share.
    Raises ValueError where the shares do not go together (`shares_fault`).
    """
    if fault := shares_fault([source.share for source in sources]):
        raise ValueError(fault)
    own = [round(source.weight * source.kept) if source.share is None else 0 for source in sources]
    shares = [_exact(source.share) if source.share is not None and source.kept else Fraction(0) for source in sources]
    added = sum(shares, Fraction(0))
    if not added:
        return own
    if any(source.share is None for source in sources):
        whole = round(sum(own) / (1 - added))
        rest = whole - sum(own)
    else:
        shares = [share / added for share in shares]
        rest = whole = min(int(source.kept / share) for source, share in zip(sources, shares, strict=True) if share)
    quotas = [whole * share for share in shares]
    return [rows + given for rows, given in zip(own, _rounded(quotas, rest), strict=True)]


def counts(rows: int, total: int, seed: int, limit: int | None = None) -> array[int]:
    """How often each row of a source counts, `total` in all: whole repeats of those that `limit` leaves, the rest by the seed.

    With a larger limit, or a larger total, the rows taken before are taken again.
    """
    kept = rows if limit is None else min(rows, limit)
    assert kept or not total, "no row can be repeated where there is none"
    whole, extra = divmod(total, kept) if kept else (0, 0)
    order = first_shuffled(rows, extra if kept == rows else kept, seed)
    often = array("I", [whole if kept == rows else 0]) * rows
    if kept < rows:
        for row in order:
            often[row] = whole
    for place in range(extra):
        often[order[place]] += 1
    return often


def held_out(digests: Iterable[int], number: int, seed: int) -> set[int]:
    """The digests of the rows that are kept for validation, `number` of those given, which are distinct.

    Which ones hangs on the rows and the seed alone, not on their order or on the other sources. The smallest products with an
    odd number made from the seed are taken: such a product is a bijection of 64 bits (Dietzfelbinger, Hagerup, Katajainen and
    Penttonen, 1997), so that it can be turned back.
    """
    factor = digest(f"held out by {seed}") | 1
    back = pow(factor, -1, MASK + 1)
    smallest = heapq.nsmallest(number, (value * factor & MASK for value in digests))
    return {value * back & MASK for value in smallest}


def number_held_out(distinct: int, *, fraction: float | None, count: int | None) -> int:
    """How many distinct rows are held out: `count` of them, or their fraction and at least one."""
    return min(distinct, count if count is not None else max(1, round((fraction or 0) * distinct)))


def _exact(share: float) -> Fraction:
    """The decimal number that was written: 0.1 + 0.2 is 0.3."""
    return Fraction(str(share))


def _rounded(quotas: Sequence[Fraction], whole: int) -> list[int]:
    """Whole numbers near the quotas that add up to `whole`, the largest remainders rounded up (Hamilton's method)."""
    rounded = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(quotas)), key=lambda place: (int(quotas[place]) - quotas[place], place))
    for place in by_remainder[: whole - sum(rounded)]:
        rounded[place] += 1
    return rounded
