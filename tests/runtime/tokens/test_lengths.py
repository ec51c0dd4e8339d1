"""runtime/data/lengths.py: what becomes of rows that are too long. Numbers from case o12."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.data.lengths import Long, Policy, dropped_line, exchanges_of, fit, learns, pieces, too_long
from runtime.faults import RunFault
from runtime.tokens.chat_template import ChatFormat, Encoded
from runtime.tokens.text_format import TextFormat

WORDS = "one two three four five six seven eight nine ten"


@pytest.fixture(scope="module")
def chat(tokenizer):
    form = ChatFormat(tokenizer, system=None)
    return lambda conversation: form.encode(conversation["messages"])


@pytest.fixture(scope="module")
def fitted(chat):
    """A conversation by a policy."""

    def apply(conversation, max_length, overlong, truncate_from="end", *, learns_last=False, encode=chat):
        policy = Policy(
            max_length=max_length, overlong=overlong, truncate_from=truncate_from, learns_last=learns_last, is_text="text" in conversation
        )
        return fit(conversation, encode(conversation), policy, encode)

    return apply


@pytest.fixture(scope="module")
def text_of(tokenizer):
    return lambda row: tokenizer.decode(row.input_ids)


@pytest.fixture(scope="module")
def trained_text(tokenizer):
    return lambda row: tokenizer.decode([token for token, flag in zip(row.input_ids, row.trained, strict=True) if flag])


def talk(*turns, system=None):
    roles = ["user", "assistant"] * len(turns)
    messages = [{"role": role, "content": text} for role, text in zip(roles, turns, strict=False)]
    return {"messages": [{"role": "system", "content": system}, *messages] if system else messages}


LONG = talk(f"Repeat: {WORDS}.", WORDS, system="Be brief.")


@pytest.mark.parametrize("overlong", ["error", "drop", "truncate", "split"])
def test_a_row_that_fits_stays_as_it_is(fitted, chat, overlong):
    found = fitted(LONG, len(chat(LONG).input_ids), overlong, "user")
    assert found.rows == (chat(LONG),)
    assert not (found.is_too_long or found.is_truncated or found.is_split or found.is_dropped)


def test_error_leaves_the_row_and_says_so(fitted, chat):
    found = fitted(LONG, 20, "error")
    assert (found.rows, found.is_too_long, found.is_truncated) == ((chat(LONG),), True, False)


def test_drop_leaves_nothing_of_a_row_that_is_too_long(fitted):
    assert fitted(LONG, 20, "drop").is_dropped


def test_truncate_cuts_the_end(fitted, chat):
    whole = chat(LONG)
    found = fitted(LONG, len(whole.input_ids) - 5, "truncate")
    assert (found.rows[0].input_ids, found.is_truncated) == (whole.input_ids[:-5], True)
    assert found.rows[0].trained == whole.trained[:-5]


def test_case_o12_is_dropped_where_it_would_lose_its_answer(fitted, chat, case, case_rows):
    short, long = ({"messages": row} for row in case_rows("o12.jsonl"))
    expected = case("o12")
    assert [len(chat(row).input_ids) for row in (short, long)] == [expected["row_1_tokens"], expected["row_2_tokens"]]
    assert not fitted(short, 64, "truncate").is_dropped
    assert fitted(long, 64, "truncate").is_dropped
    assert not fitted(long, expected["row_2_first_trained_position"] + 1, "truncate").is_dropped
    assert fitted(long, expected["row_2_first_trained_position"], "truncate").is_dropped
    policy = Policy(max_length=64, overlong="truncate", truncate_from="end", learns_last=False, is_text=False)
    assert dropped_line(1, 2, policy) == "1 of 2 rows dropped: no trainable token within 64 tokens"


def test_a_dropped_row_is_said_to_be_too_long():
    policy = Policy(max_length=64, overlong="drop", truncate_from="end", learns_last=False, is_text=False)
    assert dropped_line(1200, 5000, policy) == "1,200 of 5,000 rows dropped: longer than 64 tokens"


def test_from_the_user_case_o12_keeps_its_whole_answer(fitted, case_rows, text_of, trained_text):
    row = {"messages": case_rows("o12.jsonl")[1]}
    found = fitted(row, 64, "truncate", "user")
    (kept,) = found.rows
    asked = text_of(kept).split("<|im_start|>user\n")[1].split("<|im_end|>")[0]
    assert found.is_truncated
    assert trained_text(kept) == row["messages"][-1]["content"] + "<|im_end|>"
    assert row["messages"][0]["content"].startswith(asked)
    assert row["messages"][0]["content"][len(asked)] == " "  # at the end of a word
    assert 56 <= len(kept.input_ids) <= 64


def test_the_longest_of_the_users_messages_is_shortened_first(fitted, chat, text_of):
    row = talk("How are you?", "Well.", f"Repeat: {WORDS} {WORDS}", "No.", "Why?", "So.", system="Be brief.")
    (kept,) = fitted(row, len(chat(row).input_ids) - 10, "truncate", "user").rows
    text = text_of(kept)
    assert all(words in text for words in ("Be brief.", "How are you?", "Well.", "No.", "Why?", "So."))
    assert f"Repeat: {WORDS} one two<|im_end|>" in text or f"Repeat: {WORDS}<|im_end|>" in text
    assert kept == chat({"messages": [{**m, "content": _within(text, m["content"])} for m in row["messages"]]})


def _within(text, content):
    """The longest beginning of a message that ends a turn in this text."""
    return max((content[:n] for n in range(len(content) + 1) if f"\n{content[:n]}<|im_end|>" in text), key=len)


def test_where_the_users_words_do_not_suffice_the_end_is_cut_too(fitted, text_of):
    row = talk("First word of it", WORDS)
    (kept,) = fitted(row, 36, "truncate", "user").rows
    assert "<|im_start|>user\nFirst<|im_end|>" in text_of(kept)
    assert len(kept.input_ids) == 36
    assert text_of(kept).endswith("one two three four five")


def test_words_without_spaces_are_cut_between_characters(fitted, chat, text_of):
    row = talk("今天天气很好我们去公园散步吧" * 20, "好的")
    room = 100
    (kept,) = fitted(row, room, "truncate", "user").rows
    asked = text_of(kept).split("user\n")[1].split("<|im_end|>")[0]
    assert row["messages"][0]["content"].startswith(asked)
    assert "\ufffd" not in asked
    assert room - 6 <= len(kept.input_ids) <= room
    assert text_of(kept).endswith("好的<|im_end|>\n")


def test_a_conversation_is_split_between_exchanges(fitted, chat, text_of, trained_text):
    row = talk("A?", "one", "B?", "two", "C?", "three", system="Be brief.")
    room = len(chat(talk("B?", "two", "C?", "three", system="Be brief.")).input_ids)
    found = fitted(row, room, "split")
    assert (found.is_split, found.is_truncated, found.exchanges) == (True, False, 0)
    assert found.rows == (chat(talk("A?", "one", system="Be brief.")), chat(talk("B?", "two", "C?", "three", system="Be brief.")))
    assert [trained_text(part) for part in found.rows] == ["one<|im_end|>", "two<|im_end|>three<|im_end|>"]


def test_an_exchange_too_long_by_itself_is_left_out_and_counted(fitted, chat):
    row = talk("A?", "one", "B?", f"{WORDS} {WORDS}", "C?", "three", system="Be brief.")
    room = len(chat(talk("C?", "three", system="Be brief.")).input_ids)
    found = fitted(row, room, "split")
    assert found.rows == (chat(talk("A?", "one", system="Be brief.")), chat(talk("C?", "three", system="Be brief.")))
    assert (found.is_split, found.is_truncated, found.exchanges) == (True, True, 1)


def test_a_conversation_of_which_no_exchange_fits_is_dropped(fitted):
    found = fitted(LONG, 20, "split")
    assert (found.is_dropped, found.is_split, found.exchanges) == (True, False, 0)


def test_where_the_last_answer_alone_is_learned_its_part_is_the_row(fitted, chat):
    row = talk("A?", "one", "B?", "two", "C?", "three")
    asked = []

    def last_answers(conversation):
        asked.append(conversation["messages"])
        whole = chat(conversation)
        is_last = conversation["messages"][-1].get("train", True)
        return Encoded(input_ids=whole.input_ids, trained=[flag and is_last for flag in whole.trained])

    found = fitted(row, len(chat(talk("B?", "two", "C?", "three")).input_ids), "split", learns_last=True, encode=last_answers)
    assert [len(part.input_ids) for part in found.rows] == [len(chat(talk("B?", "two", "C?", "three")).input_ids)]
    assert [message.get("train") for message in asked[-1] if message["role"] == "assistant"] == [False]


def test_an_exchange_is_all_until_a_user_speaks_again():
    roles = ["system", "user", "user", "assistant", "tool", "assistant", "user", "assistant"]
    messages = [{"role": role, "content": str(index)} for index, role in enumerate(roles)]
    begin, exchanges = exchanges_of(messages)
    assert [message["content"] for message in begin] == ["0"]
    assert [[message["content"] for message in exchange] for exchange in exchanges] == [["1", "2", "3", "4", "5"], ["6", "7"]]


def test_a_greeting_is_an_exchange_of_its_own():
    messages = [{"role": role, "content": ""} for role in ("assistant", "user", "assistant")]
    begin, exchanges = exchanges_of(messages)
    assert (begin, [len(exchange) for exchange in exchanges]) == ([], [1, 2])


def test_a_text_is_split_into_pieces_and_no_token_is_lost(fitted, tokenizer):
    form = TextFormat(tokenizer)
    text = {"text": WORDS * 5}
    found = fitted(text, 16, "split", encode=lambda row: form.encode([{"role": "user", "content": row["text"]}]))
    whole = form.encode([{"role": "user", "content": text["text"]}])
    assert [token for part in found.rows for token in part.input_ids] == whole.input_ids
    assert all(len(part.input_ids) == 16 for part in found.rows[:-1])
    assert all(all(part.trained) for part in found.rows)
    assert (found.is_split, found.is_truncated) == (True, False)


@given(tokens=st.integers(1, 400), room=st.integers(3, 64))
def test_pieces_are_the_whole_and_each_has_something_to_learn(tokens, room):
    bounds = pieces(tokens, room)
    sizes = [end - start for start, end in itertools.pairwise(bounds)]
    assert (bounds[0], bounds[-1], sum(sizes)) == (0, tokens, tokens)
    assert max(sizes) <= room
    assert tokens == 1 or min(sizes) > 1
    assert all(size >= room - 1 for size in sizes[:-1])


SAID = st.text(st.sampled_from("ab yz\n.—é界"), min_size=1, max_size=60).filter(lambda text: text.strip() == text and text)
TALKS = st.lists(SAID, min_size=2, max_size=8).map(lambda turns: turns[: len(turns) // 2 * 2])


@given(
    turns=TALKS,
    system=st.none() | st.just("Be brief."),
    room=st.integers(3, 120),
    overlong=st.sampled_from(["drop", "truncate", "split"]),
    truncate_from=st.sampled_from(["end", "user"]),
)
@settings(max_examples=60, deadline=None)
def test_every_row_that_is_left_fits_and_has_something_to_learn(fitted, turns, system, room, overlong, truncate_from):
    found = fitted(talk(*turns, system=system), room, overlong, truncate_from)
    assert all(len(row.input_ids) == len(row.trained) <= room for row in found.rows)
    assert all(learns(row) for row in found.rows)
    assert len(found.rows) <= len(turns) // 2


@given(turns=TALKS, room=st.integers(30, 120))
@settings(max_examples=40, deadline=None)
def test_split_learns_all_answers_but_those_it_counts(fitted, trained_text, turns, room):
    row = talk(*turns)
    found = fitted(row, room, "split")
    learned = [part for piece in found.rows for part in trained_text(piece).split("<|im_end|>")[:-1]]
    answers = list(turns[1::2])
    assert found.is_dropped or len(learned) == len(answers) - found.exchanges
    assert [answer for answer in answers if answer in learned] == learned or len(set(answers)) < len(answers)


def test_rows_that_are_too_long_are_named_and_those_beyond_twenty_counted():
    found = [Long(tokens=60 + number, beginning=f"user: {number}") for number in range(22)]
    fault = too_long(found, 50)
    assert isinstance(fault, RunFault)
    lines = str(fault).splitlines()
    assert lines[:2] == ["error SG424: 22 distinct rows are longer than 50 tokens", "  60 tokens: user: 0"]
    assert lines[20:] == [
        "  79 tokens: user: 19",
        "  and 2 more",
        "  hint: write data.max_length: 81, or overlong: drop, truncate or split",
    ]
