"""Several rows in one: best fit into packs of at most T tokens, the longest rows first. About 1 % of the room stays empty.

In a pack the position ids start again at each row, and the model gets no attention mask: transformers (5.23) sees the
restarts and lets no row attend to another, under sdpa, eager and flex_attention alike (measured: logits as of the rows alone
within 1e-4). An attention mask beside them, all ones even, turns that off, and so does a cache of keys: the model is called
with use_cache=False. The padding behind the last row of a batch's shorter packs is a row of its own.

flash_attention_2 looks for restarts only in a batch of one line: there the packs of a batch are put one after another, which
costs it nothing. The other attentions would pay for the square of that length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """Pack number p holds the rows `rows[bounds[p] : bounds[p + 1]]`: `rows` int64 [R], each row once, `bounds` int64 [P + 1]."""

    rows: Numbers
    bounds: Numbers

    def __len__(self) -> int:
        return len(self.bounds) - 1


def best_fit(lengths: Sequence[int] | Numbers, room: int, *, seed: int) -> Packing:
    """Packs of rows, none over `room` tokens together; the same for the same lengths and seed.

    The next row, longest first, goes where it leaves the least room, and into a new pack where it fits nowhere. Among rows of
    one length the seed chooses, so that rows of one source do not fill packs of their own.
    """
    import numpy as np

    lengths_R = np.asarray(lengths, dtype=np.int64)
    assert not len(lengths_R) or 0 < lengths_R.min() <= lengths_R.max() <= room, "the policy of lengths comes first"
    shuffled = np.random.default_rng(seed).permutation(len(lengths_R))
    longest_first = shuffled[np.argsort(-lengths_R[shuffled], kind="stable")]
    pack_of = np.empty(len(lengths_R), dtype=np.int64)
    packs, start = _Rooms(room), 0
    counts = np.bincount(lengths_R)
    for length in np.flatnonzero(counts)[::-1].tolist():
        rows = longest_first[start : start + counts[length]]
        start += len(rows)
        done = 0
        while done < len(rows):
            placed = packs.place(length, len(rows) - done)
            pack_of[rows[done : done + len(placed)]] = placed
            done += len(placed)
    return Packing(rows=np.argsort(pack_of, kind="stable"), bounds=np.searchsorted(np.sort(pack_of), np.arange(packs.number + 1)))


class _Rooms:
    """Packs by the room that is left in them. Rows of one length go in together: as many as a pack takes, in many packs at once."""

    def __init__(self, room: int) -> None:
        self.room, self.number = room, 0
        self.by_room: dict[int, list[Numbers]] = {}
        self.occupied = 0  # bit r: some pack has r tokens left

    def place(self, length: int, number: int) -> Numbers:
        """The packs, a number for each row, of at least one and at most `number` rows of this length."""
        import numpy as np

        fitting = self.occupied >> length
        left = length + (fitting & -fitting).bit_length() - 1 if fitting else self.room
        each = left // length  # once a row is in, what is left there is still the best fit for the next
        needed = -(-number // each)
        packs = self._take(left) if fitting else self._new(needed)
        used = packs[:needed]
        placed = np.repeat(used, each)[:number]
        in_last = len(placed) - each * (len(used) - 1)
        self._put(left, packs[needed:])
        self._put(left - each * length, used[:-1])
        self._put(left - in_last * length, used[-1:])
        return placed

    def _new(self, number: int) -> Numbers:
        import numpy as np

        self.number += number
        return np.arange(self.number - number, self.number)

    def _take(self, left: int) -> Numbers:
        import numpy as np

        self.occupied &= ~(1 << left)
        return np.concatenate(self.by_room.pop(left))

    def _put(self, left: int, packs: Numbers) -> None:
        if left and len(packs):
            self.by_room.setdefault(left, []).append(packs)
            self.occupied |= 1 << left


def fill(lengths: Sequence[int] | Numbers, packs: int, room: int) -> float:
    """Tokens in so many packs, as a share of all the room in them."""
    import numpy as np

    return float(np.sum(lengths)) / (packs * room)
