"""What the rows at hand have in common."""

from __future__ import annotations

from array import array

import pytest

from conversations.row import conversation_of, digest
from specgen.facts.rowtable import Look, RowTable
from specgen.facts.survey import survey
from tests.rows import plain_row

U, A, S = "user", "assistant", "system"
PLAIN = plain_row([(U, "Hi"), (A, "Hello.")])


def looked_at(*rows, held=(), asked=(), controls=()):
    table = RowTable(Look(controls=tuple(controls), asked=tuple(asked)))
    for row in rows:
        table.add(conversation_of(row))
    return survey([(table, array("I", [1] * len(rows)))], {digest(row) for row in held}, (), asked=asked)


@pytest.mark.parametrize(
    ("turns", "traits"),
    [
        ([(U, "Hi"), (A, "Hello.")], set()),
        ([(U, "a\tb\r\nc \\r \\u0000 ü 漢 🙂"), (A, 'Say ["user","Hi"]')], set()),
        ([(U, "\ufeffHi"), (A, "Hello.")], {"odd characters"}),
        ([(U, "Caf\ufffd"), (A, "Hello.")], {"odd characters"}),
        ([(U, "a\rb"), (A, "Hello.")], {"odd characters"}),
        ([(U, "a\x00b"), (A, "Hello.")], {"odd characters"}),
        ([(U, " Hi"), (A, "Hello.")], {"blank edges"}),
        ([(U, "Hi"), (A, "Hello.\n")], {"blank edges"}),
        ([(U, "Hi"), (A, "Hello."), (U, "And?")], {"no answer at the end"}),
        ([(S, "Be brief."), (U, "Hi"), (A, "Hello.")], {"a system text"}),
        ([(S, "Be brief."), (A, "Welcome.")], {"a system text", "unusual turns"}),
        ([(U, "Hi"), (U, "Hi?"), (A, "Hello.")], {"unusual turns"}),
        ([(U, "Hi"), (S, "Be brief."), (A, "Hello.")], {"unusual turns"}),
        ([(U, "Hi<|end|>"), (A, "Hello.")], {"control tokens"}),
        ([(U, "Hi"), (A, "hf_" + 34 * "a")], {"secrets"}),
        ([("text", "Once upon a time.")], set()),
    ],
)
def test_a_row_has_its_traits_and_no_others(turns, traits):
    roles = set() if turns[0][0] == "text" else {"roles"}
    assert set(looked_at(plain_row(turns), controls=["<|end|>"]).traits) == traits | roles


def test_a_trait_counts_repeats_and_shows_the_first_row():
    first, second = (plain_row([(U, f"{text}\n"), (A, "Yes.")]) for text in ("One?", "Two?"))
    trait = looked_at(first, first, PLAIN, second).traits["blank edges"]
    assert (trait.rows, trait.example) == (3, r"user: One?\n / assistant: Yes.")


def test_shares_are_those_of_the_data_stage():
    rows = [plain_row([(U, f"Say {number % 2}."), (A, f"{number}")]) for number in range(4)]
    found = looked_at(*rows, rows[0], held=[rows[3]])
    assert found.duplicates == 1 - 3 / 4
    assert found.overlap == 1.0
    assert looked_at(*rows).overlap is None


def test_the_commonest_answer_is_told_with_its_share_and_its_prompts():
    rows = [plain_row([(U, f"Question {number}?"), (A, "I am Aria.")]) for number in range(3)]
    assert looked_at(*rows, PLAIN).usual_answer == (0.75, 3)


def test_answers_are_those_to_the_very_question():
    two = plain_row([(U, "Hi"), (A, "Good day."), (U, "Who are you?"), (A, "Aria.")])
    found = looked_at(PLAIN, two, asked=["Hi", "Who are you?", "who are YOU", "And now?"])
    assert found.answers == {"Hi": ("Hello.", "Good day."), "Who are you?": ("Aria.",), "who are YOU": (), "And now?": ()}
    assert found.alike == {}


def test_a_question_is_alike_one_that_differs_in_case_and_punctuation():
    assert looked_at(PLAIN, asked=["hi!"]).alike == {"hi!": "Hi"}


def test_no_rows_have_nothing_in_common():
    found = looked_at()
    assert (found.traits, found.usual_answer, found.duplicates, found.overlap) == ({}, (0.0, 0), None, None)
