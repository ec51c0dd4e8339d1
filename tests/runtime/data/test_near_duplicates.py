"""runtime/data/near_duplicates.py: rows that say nearly the same as an earlier one are left out."""

from __future__ import annotations

import random
import sys
import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from conversations.similarity import words
from runtime.data.near_duplicates import groups_of_words, repeats, sketcher

sketch = sketcher()
WORDS = [f"word{number}" for number in range(2000)]


def talk(user, assistant, system=None):
    messages = [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
    return {"messages": [{"role": "system", "content": system}, *messages] if system else messages}


def similarity(one, other):
    """Jaccard, computed plainly."""
    first, second = groups_of_words(one), groups_of_words(other)
    return len(first & second) / len(first | second)


def kept(rows, threshold=0.8, counts=None):
    sketches = np.array([sketch(row) for row in rows]) if rows else np.zeros((0, 128), np.uint32)
    counts = np.ones(len(rows), bool) if counts is None else np.array(counts)
    return [row for row, gone in zip(rows, repeats(sketches, counts, threshold), strict=True) if not gone]


def test_groups_are_five_words_in_sequence_without_case_and_punctuation():
    assert groups_of_words(talk("How are you today?", "Fine, thanks!")) == {b"how are you today fine", b"are you today fine thanks"}


def test_a_row_of_few_words_is_one_group():
    assert groups_of_words({"text": "Say: yes."}) == {b"say yes"}
    assert groups_of_words({"text": "?!"}) == {b""}


def test_characters_of_chinese_are_words():
    assert groups_of_words({"text": "你好，我是小助手"}) == {
        "你 好 我 是 小".encode(),
        "好 我 是 小 助".encode(),
        "我 是 小 助 手".encode(),
    }


def test_system_texts_do_not_make_rows_alike():
    long = " ".join(WORDS[:300])
    rows = [talk("What is red?", "A colour.", long), talk("How tall are giraffes?", "Five metres.", long)]
    assert kept(rows) == rows


def test_calls_and_thoughts_tell_rows_apart():
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Rome"}}}]}
    thought = {"role": "assistant", "content": "", "reasoning_content": "The user asks about the weather in a city."}
    ask = {"role": "user", "content": "And now?"}
    rows = [{"messages": [ask, call]}, {"messages": [ask, thought]}]
    assert kept([*rows, *rows]) == rows


def test_the_first_of_nearly_the_same_rows_stays():
    chance = random.Random(16)
    long = chance.choices(WORDS, k=200)
    near, far = [*long[:100], "another", *long[101:]], [*long[:100], *chance.choices(WORDS, k=100)]
    rows = [{"text": " ".join(words)} for words in (long, near, far)]
    assert similarity(rows[0], rows[1]) > 0.9
    assert similarity(rows[0], rows[2]) < 0.5
    assert kept(rows) == [rows[0], rows[2]]
    assert kept(rows[1:] + rows[:1]) == [rows[1], rows[2]]


def test_a_row_that_does_not_count_makes_no_other_a_repeat():
    """A weight below one leaves rows out."""
    rows = [{"text": "one two three four five six"}] * 3
    assert kept(rows, counts=[False, True, True]) == rows[:2]
    assert kept(rows, counts=[True, False, False]) == rows


def test_with_a_threshold_of_one_only_the_same_words_go():
    chance = random.Random(16)
    long = chance.choices(WORDS, k=50)
    rows = [{"text": text} for text in (" ".join(long), " ".join(long).upper() + "!", " ".join([*long[:-1], "another"]))]
    assert kept(rows, threshold=1.0) == [rows[0], rows[2]]


def test_what_is_found_is_what_a_comparison_of_all_rows_finds():
    """Similarities near the threshold are estimates; these are well away from it."""
    chance = random.Random(16)
    rows = [{"text": " ".join(chance.choices(WORDS, k=120))} for _ in range(150)]
    for row in rows[:50]:
        words = row["text"].split()
        place = chance.randrange(len(words))
        rows.append({"text": " ".join([*words[:place], "another", *words[place + 1 :]])})
    chance.shuffle(rows)
    wanted = []
    for row in rows:
        if all(similarity(row, earlier) < 0.7 for earlier in wanted):
            wanted.append(row)
    assert len(wanted) == 150
    assert kept(rows, threshold=0.7) == wanted


@given(texts=st.lists(st.text(st.sampled_from("ab c"), max_size=30), max_size=12), threshold=st.sampled_from([0.01, 0.3, 0.8, 1.0]))
@settings(max_examples=25, deadline=None)
def test_a_row_and_its_copy_are_never_both_kept(texts, threshold):
    rows = [{"text": text} for text in texts]
    left = kept([*rows, *rows], threshold)
    assert len({frozenset(groups_of_words(row)) for row in left}) == len(left)
    assert left == kept([*rows, *rows], threshold)
    assert not rows or left[0] == rows[0]


def test_without_datasketch_the_fault_says_what_to_install(fault_of, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasketch", None)
    assert fault_of(sketcher) == (
        "error SG493: data.near_duplicates needs datasketch, which is not installed\n"
        "  hint: pip install 'specgen[dedup]', or leave data.near_duplicates out"
    )


def test_a_thousand_rows_take_less_than_a_second():
    chance = random.Random(16)
    rows = [{"text": " ".join(chance.choices(WORDS, k=60))} for _ in range(1000)]
    began = time.perf_counter()
    assert len(kept(rows)) == 1000
    assert time.perf_counter() - began < 1


def test_a_word_is_what_it_is_to_the_likeness_of_texts():
    assert groups_of_words({"text": "人々 ລາວ a_b"}) == {"人 々 ລ າ ວ".encode(), "々 ລ າ ວ a".encode(), "ລ າ ວ a b".encode()}
    assert words("人々 ລາວ a_b") == ["人", "々", "ລ", "າ", "ວ", "a", "b"]
