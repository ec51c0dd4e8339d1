"""runtime/data/joining.py: documents one after another, cut at every max_length tokens."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runtime.data.joining import join


def joined(lengths, room, seed=16):
    """The parts of each pack, as lists of tokens; a token is the number of its document and its place there."""
    tokens = [(document, place) for document, length in enumerate(lengths) for place in range(length)]
    bounds = np.cumsum([0, *lengths])
    found = join(bounds[:-1], bounds[1:], room, seed=seed)
    parts = [tokens[start:end] for start, end in zip(found.starts, found.ends, strict=True)]
    return [parts[begin:end] for begin, end in zip(found.bounds, found.bounds[1:], strict=False)]


@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=30), room=st.integers(3, 40), seed=st.integers(0, 5))
def test_packs_are_the_documents_in_their_order_and_no_token_is_lost(lengths, room, seed):
    packs = joined(lengths, room, seed)
    order = np.random.default_rng(seed).permutation(len(lengths)).tolist()
    assert [token for pack in packs for part in pack for token in part] == [(d, place) for d in order for place in range(lengths[d])]
    sizes = [sum(map(len, pack)) for pack in packs]
    assert all(room - 1 <= size <= room for size in sizes[:-1])
    assert sizes[-1] <= room
    assert sum(lengths) == 1 or min(sizes) > 1  # one token alone would be predicted by nothing
    assert all(len({document for document, _ in part}) == 1 for pack in packs for part in pack)  # documents stay apart


def test_a_document_that_is_cut_goes_on_in_the_next_pack():
    assert [[place for _, place in part] for pack in joined([6], 4) for part in pack] == [[0, 1, 2, 3], [4, 5]]
    assert [[place for _, place in part] for pack in joined([5], 4) for part in pack] == [[0, 1, 2], [3, 4]]


def test_the_seed_decides_the_order():
    assert joined([3] * 20, 10) == joined([3] * 20, 10)
    assert joined([3] * 20, 10) != joined([3] * 20, 10, seed=17)


def test_a_document_that_counts_twice_is_joined_twice():
    found = join(np.array([0, 0, 5]), np.array([5, 5, 7]), 4, seed=0)
    assert int((found.ends - found.starts).sum()) == 12
