"""conversations/mixing.py and chance.py: how many rows a source gives, which ones, and which are held out."""

from __future__ import annotations

import random
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversations.chance import first_shuffled
from conversations.mixing import Mix, counts, held_out, number_held_out, shares_fault, totals


def mix(rows, *, weight=1.0, share=None, limit=None):
    return Mix(rows=rows, weight=weight, share=share, limit=limit)


def test_a_weight_counts_whole_rows():
    assert totals([mix(3), mix(3, weight=2), mix(3, weight=0.5), mix(10, weight=0.25, limit=4)]) == [3, 6, 2, 1]


def test_a_share_is_of_all_rows():
    # 60 rows are the 60 % that the shares leave: 100 in all
    assert totals([mix(60), mix(7, share=0.3), mix(1000, share=0.1)]) == [60, 30, 10]


def test_a_weight_beside_shares_is_counted_first():
    assert totals([mix(30, weight=2), mix(7, share=0.4)]) == [60, 40]


def test_where_all_have_a_share_no_source_repeats_a_row():
    assert totals([mix(49, share=0.49), mix(700, share=0.51)]) == [49, 51]
    assert totals([mix(100, share=0.7, limit=70), mix(1000, share=0.3)]) == [70, 30]


def test_thirds_may_be_written_with_six_digits():
    assert totals([mix(10, share=0.333333), mix(20, share=0.333333), mix(30, share=0.333334)]) == [10, 10, 10]


def test_a_source_without_rows_gives_none():
    assert totals([mix(10), mix(0, share=0.5)]) == [10, 0]
    assert totals([mix(0, share=0.5), mix(10, share=0.5)]) == [0, 10]
    assert totals([mix(0), mix(10, share=0.5)]) == [0, 0]


@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 99)), min_size=1, max_size=6), st.integers(0, 10**6))
def test_rows_are_within_one_of_their_share(sources, own):
    parts = sum(part for _, part in sources) + (100 if own else 0)
    mixes = [mix(rows, share=part / parts) for rows, part in sources] + ([mix(own)] if own else [])
    if not own and len(sources) == 1:
        mixes = [mix(sources[0][0], share=1.0)]
    found = totals(mixes)
    for source, rows in zip(mixes, found, strict=True):
        if source.share is None:
            assert rows == source.rows
        else:
            assert abs(rows - source.share * sum(found)) < 1 + 1e-5 * sum(found)
    if not own:
        assert all(rows <= source.rows for source, rows in zip(mixes, found, strict=True))


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        ([None, 1.0], "the shares add up to 1: nothing is left for the sources that have none"),
        ([0.7, 0.8, None], "the shares add up to 1.5: nothing is left for the sources that have none"),
        ([0.2, 0.3], "the shares add up to 0.5, and have to add up to 1"),
        ([0.9, 0.3], "the shares add up to 1.2, and have to add up to 1"),
        ([None, None], None),
        ([0.7, 0.2, 0.1], None),
        ([None, 0.9], None),
    ],
)
def test_shares_that_do_not_go_together_are_told(shares, told):
    assert shares_fault(shares) == told
    if told:
        with pytest.raises(ValueError, match="the shares add up to"):
            totals([mix(10, share=share) for share in shares])


@given(st.integers(1, 300), st.integers(0, 1000), st.integers(0, 2**63), st.none() | st.integers(1, 400))
def test_counts_add_up_to_the_total_and_differ_by_one_at_most(rows, total, seed, limit):
    found = counts(rows, total, seed, limit)
    assert sum(found) == total
    kept = min(rows, limit or rows)
    assert max(found) - min(count for count in sorted(found)[-kept:]) <= 1
    assert sum(count > 0 for count in found) == min(kept, total)
    assert found == counts(rows, total, seed, limit)


@given(st.integers(2, 300), st.integers(1, 299), st.integers(0, 2**63))
def test_a_row_taken_stays_taken_when_more_are(rows, total, seed):
    fewer, more = counts(rows, min(total, rows), seed), counts(rows, min(total, rows) + 1, seed)
    assert all(now >= before for before, now in zip(fewer, more, strict=True))
    fewer, more = counts(rows, 5, seed, 5), counts(rows, 6, seed, 6)
    assert all(now >= before for before, now in zip(fewer, more, strict=True)) or rows < 6


def test_a_source_without_rows_has_no_counts():
    assert list(counts(0, 0, 1)) == []


@given(st.integers(0, 200), st.integers(0, 2**63), st.data())
def test_the_first_of_a_shuffle_are_distinct_and_the_beginning_of_more(number, seed, data):
    first = data.draw(st.integers(0, number))
    few, everything = first_shuffled(number, first, seed), first_shuffled(number, number, seed)
    assert sorted(everything) == list(range(number))
    assert list(everything[:first]) == list(few)  # a few are worked out in another way than most


@pytest.mark.parametrize("seed", [0, 42, 2**31])
def test_a_shuffle_is_durstenfelds_with_the_numbers_of_mt19937(seed):
    # reference: NumPy's own MT19937, seeded as init_by_array([seed]) as Python does, and the textbook's loop
    numpy = pytest.importorskip("numpy")
    draws = numpy.random.RandomState([seed]).random_sample(10)
    expected = list(range(10))
    for place in range(10):
        other = place + int(draws[place] * (10 - place))
        expected[place], expected[other] = expected[other], expected[place]
    assert list(first_shuffled(10, 10, seed)) == expected


def test_a_shuffle_takes_every_row_equally_often():
    often = [0] * 20
    for seed in range(4000):
        for row in first_shuffled(20, 5, seed):
            often[row] += 1
    assert all(abs(count - 1000) < 150 for count in often)  # 5.5 standard deviations


@given(st.sets(st.integers(0, 2**64 - 1), max_size=50), st.integers(1, 60), st.integers(0, 2**63))
def test_held_out_rows_are_of_those_given_whatever_their_order(digests, number, seed):
    found = held_out(digests, number, seed)
    assert found <= digests
    assert len(found) == min(number, len(digests))
    assert found == held_out(sorted(digests), number, seed)
    assert found <= held_out(digests, number + 1, seed)


def test_other_seeds_hold_out_other_rows():
    draw = random.Random(1)
    digests = [draw.getrandbits(64) for _ in range(1000)]
    found = [held_out(digests, 100, seed) for seed in range(20)]
    assert all(len(one & other) < 35 for at, one in enumerate(found) for other in found[:at])  # 10 are expected


def test_the_number_held_out_is_a_fraction_and_one_at_least():
    assert number_held_out(95, fraction=0.1, count=None) == 10
    assert number_held_out(3, fraction=0.1, count=None) == 1
    assert number_held_out(95, fraction=None, count=200) == 95
    assert number_held_out(95, fraction=None, count=20) == 20


def test_two_million_rows_take_about_a_second_and_little_memory():
    started = time.process_time()
    found = counts(2_000_000, 1_500_000, 1)
    assert time.process_time() - started < 4  # 0.5 on the machine this was written on
    assert sum(found) == 1_500_000
    tracemalloc.start()
    counts(200_000, 150_000, 1)
    assert tracemalloc.get_traced_memory()[1] < 200_000 * 24
    tracemalloc.stop()
