"""Continued pretraining: documents one after another, cut at every max_length tokens. No token is lost, the last piece is shorter.

Each document ends with the end of text. What is cut goes on at the beginning of the next piece, where positions start again, as
they do at each document: none sees another (packing.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runtime.data.lengths import pieces

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """Parts of documents, as tokens [starts[i], ends[i]) of the flat arrays, in the order in which they are joined; pack p holds
    the parts bounds[p] up to bounds[p + 1]."""

    starts: Numbers
    ends: Numbers
    bounds: Numbers

    def __len__(self) -> int:
        return len(self.bounds) - 1


def join(starts_D: Numbers, ends_D: Numbers, room: int, *, seed: int) -> Joined:
    """Documents, each at least one token of the flat arrays, in an order by the seed, cut into packs of `room` tokens."""
    import numpy as np

    order = np.random.default_rng(seed).permutation(len(starts_D))
    starts, ends = starts_D[order], ends_D[order]
    documents = np.concatenate([[0], np.cumsum(ends - starts)])  # where each begins in the joined text
    cuts = np.array(pieces(int(documents[-1]), room))
    edges = np.union1d(documents, cuts)
    document = np.searchsorted(documents, edges[:-1], side="right") - 1
    begins = starts[document] + edges[:-1] - documents[document]
    return Joined(starts=begins, ends=begins + np.diff(edges), bounds=np.searchsorted(edges, cuts))
