"""Tables of large files are kept, and made anew where they are not whole."""

from __future__ import annotations

import pytest

from conversations.row import conversation_of
from specgen.facts import tablecache
from specgen.facts.rowtable import Look, RowTable
from tests.rows import plain_row

LOOK = Look(controls=("<|end|>",), asked=("Hi",))
ROWS = [
    plain_row([("user", "Hi"), ("assistant", "Hello.")]),
    plain_row([("user", "hi!"), ("assistant", " Yes ")]),
    plain_row([("text", "é")]),
]


def table_of(*rows):
    table = RowTable(LOOK)
    for row in rows:
        table.add(conversation_of(row))
    return table


@pytest.fixture
def key(tmp_path, monkeypatch):
    monkeypatch.setenv("SPECGEN_CACHE", str(tmp_path))
    return tablecache.key_of("ab" * 32, "openai", LOOK)


def test_a_table_comes_back_as_it_was(key):
    table = table_of(*ROWS)
    tablecache.keep(key, table)
    assert tablecache.kept(key, LOOK) == table


def test_another_file_shape_or_question_has_another_key(key):
    assert key != tablecache.key_of("cd" * 32, "openai", LOOK)
    assert key != tablecache.key_of("ab" * 32, "alpaca", LOOK)
    assert key != tablecache.key_of("ab" * 32, "openai", Look(asked=("Ho",)))


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:50], lambda data: b"", lambda data: data[:-1] + b"\xff"])
def test_a_damaged_table_is_made_anew(key, tmp_path, damage):
    tablecache.keep(key, table_of(*ROWS))
    (file,) = (tmp_path / "rows").iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert tablecache.kept(key, LOOK) is None


def test_rows_with_a_secret_are_not_kept(key, tmp_path):
    tablecache.keep(key, table_of(plain_row([("user", "Hi"), ("assistant", "hf_" + 34 * "a")])))
    assert tablecache.kept(key, LOOK) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cache", ["/proc/none", __file__])
def test_a_cache_that_cannot_be_written_is_no_fault(key, monkeypatch, cache):
    monkeypatch.setenv("SPECGEN_CACHE", cache)
    tablecache.keep(key, table_of(*ROWS))
    assert tablecache.kept(key, LOOK) is None


def test_tables_put_together_are_the_table_of_all_rows():
    one, other = table_of(*ROWS[:1]), table_of(*ROWS[1:])
    one.extend(other)
    assert one == table_of(*ROWS)
