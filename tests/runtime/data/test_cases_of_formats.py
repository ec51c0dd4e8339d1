"""Cases o01 to o07 (tests/cases) from the file to the tokens: formats are read into rows, rows rendered, tokenized and masked."""

from __future__ import annotations

import itertools

import pytest

from conversations.formats import Shape
from conversations.rows import rows_of
from runtime.tokens.chat_template import ChatFormat
from tests.rows import spans


@pytest.fixture(scope="module")
def encoded(tokenizer, case_file):
    """The rows of a file as tokens, by their lines; those with faults are left out."""
    chat = ChatFormat(tokenizer, system=None)

    def read(name, form="openai"):
        found = rows_of(str(case_file(name)), Shape(form))
        return {line: chat.encode(row["messages"]) for line, row in found if not isinstance(row, list)}

    return read


def trained_ids(row):
    return list(itertools.compress(row.input_ids, row.trained))


def same(row, expected):
    assert row.input_ids == expected.get("input_ids", row.input_ids)
    assert len(row.input_ids) == expected["total_tokens"]
    assert spans(row) == expected["trained_positions"]
    assert trained_ids(row) == expected["trained_ids"]


def test_o01_a_file_of_a_windows_editor(encoded, case):
    marked, plain = list(encoded("o01.jsonl").values()), list(encoded("o01_plain.jsonl").values())
    assert [row.input_ids for row in marked] == [row.input_ids for row in plain]
    same(marked[0], case("o01")["row_1"])
    assert trained_ids(marked[2]) == case("o01")["row_3_trained_ids"]


def test_o02_an_array_and_lines(encoded):
    array = [row.input_ids for row in encoded("o02_array.json").values()]
    for name in ("o02_array_named_jsonl.jsonl", "o02_lines_named_json.json"):
        assert [row.input_ids for row in encoded(name).values()] == array
    assert len(array) == 2


def test_o03_content_that_is_no_text_is_never_trained(encoded, case):
    rows = encoded("o03.jsonl")
    assert list(rows) == [1]
    assert trained_ids(rows[1]) == case("o03")["line_1_trained_ids"]


def test_o04_names_of_speakers(encoded, case):
    rows = encoded("o04.jsonl", "sharegpt")
    assert list(rows) == [1, 2]
    same(rows[1], case("o04")["row_1"])
    assert trained_ids(rows[2]) == case("o04")["row_2_trained_ids"]


def test_o05_an_input_that_says_nothing(encoded, case):
    *silent, said = encoded("o05.json", "alpaca").values()
    assert len(silent) == 4
    for row in silent:
        same(row, case("o05")["rows_1_to_4"])
    assert trained_ids(said) == case("o05")["row_5_trained_ids"]


def test_o06_parts_of_text(encoded, case):
    rows = encoded("o06.jsonl")
    assert list(rows) == [1]
    same(rows[1], case("o06")["line_1_if_joined"])


def test_o07_roles_in_any_order(tokenizer, case_file, case):
    chat = ChatFormat(tokenizer, system=None)
    rows = {line: row["messages"] for line, row in rows_of(str(case_file("o07.jsonl")), Shape("openai"))}
    for line in (1, 2, 3, 4):
        same(chat.encode(rows[line]), case("o07")["if_accepted"][f"line_{line}"])
