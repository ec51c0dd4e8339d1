"""runtime/data/formats.py: row by row what the compiler reads (specgen/facts/formats.py)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conversations.row import plain_row
from runtime.data import formats
from runtime.data.formats import turns_of
from specgen.facts import formats as compilers

CASES = Path(__file__).parents[1] / "cases"
FILES = {
    "o01.jsonl": "openai",
    "o03.jsonl": "openai",
    "o04.jsonl": "sharegpt",
    "o05.json": "alpaca",
    "o06.jsonl": "openai",
    "o07.jsonl": "openai",
}
KEYS = ["messages", "role", "content", "conversations", "from", "value", "system", "instruction", "input", "output", "history"]
KEYS += ["prompt", "completion", "text", "name"]
SCALAR = st.sampled_from([None, True, 0, 1.5, "", " ", "Hi.", "user", "assistant", "human", "gpt", "system", "narrator", "\ud800"])
VALUE = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4), max_leaves=12
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
MESSAGE = st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": TEXT})
TURN = st.fixed_dictionaries({"from": st.sampled_from(["human", "gpt", "system", "model"]), "value": TEXT})
WHOLE = {
    "openai": st.fixed_dictionaries({"messages": st.lists(MESSAGE, max_size=4)}),
    "sharegpt": st.fixed_dictionaries({"conversations": st.lists(TURN, max_size=4)}, optional={"system": TEXT}),
    "alpaca": st.fixed_dictionaries(
        {"instruction": TEXT, "output": TEXT},
        optional={"input": TEXT | st.none(), "history": st.lists(st.lists(TEXT, min_size=2, max_size=2), max_size=2)},
    ),
    "completion": st.fixed_dictionaries({"prompt": TEXT, "completion": TEXT}),
    "text": st.fixed_dictionaries({"text": TEXT}),
}


def rows_of(file):
    content = (CASES / file).read_text(encoding="utf-8-sig")
    if file.endswith(".json"):
        return json.loads(content)
    return [json.loads(line) for line in content.splitlines() if line.strip()]


@pytest.mark.parametrize(("file", "form"), FILES.items())
def test_the_rows_of_the_case_files_are_the_compilers(file, form):
    rows = rows_of(file)
    assert rows
    for row in rows:
        turns, problems = turns_of(row, form)
        assert (turns, problems) == compilers.turns_of(row, form)
        assert plain_row(turns)


@settings(max_examples=300, deadline=None)
@given(form=st.sampled_from(list(WHOLE)), row=VALUE)
def test_any_row_is_read_or_refused_as_by_the_compiler(form, row):
    assert turns_of(row, form) == compilers.turns_of(row, form)


@pytest.mark.parametrize("form", list(WHOLE))
def test_rows_of_the_format_are_the_compilers(form):
    @settings(max_examples=100, deadline=None)
    @given(row=WHOLE[form])
    def same(row):
        assert turns_of(row, form) == compilers.turns_of(row, form)

    same()


def test_both_know_the_same_formats():
    assert formats.READERS.keys() == compilers.READERS.keys() == WHOLE.keys()


@pytest.mark.parametrize(
    ("form", "row", "turns"),
    [
        (
            "openai",
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
            [("user", "a"), ("assistant", "b")],
        ),
        (
            "sharegpt",
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
            [("user", "a"), ("assistant", "b")],
        ),
        ("alpaca", {"instruction": "a", "input": "x", "output": "b"}, [("user", "a\nx"), ("assistant", "b")]),
        ("completion", {"prompt": "a", "completion": "b"}, [("user", "a"), ("assistant", "b")]),
        ("text", {"text": "a\nb"}, [("text", "a\nb")]),
    ],
)
def test_a_row_of_each_format(form, row, turns):
    assert turns_of(row, form) == (turns, [])


def test_rows_of_every_format_reach_the_token_file(tmp_path, configured, tokenizer):
    from runtime.data.dataset import load_rows
    from runtime.data.stage import make_data

    rows = {
        "openai": {"messages": [{"role": "user", "content": "Q1"}, {"role": "assistant", "content": "A1"}]},
        "sharegpt": {"conversations": [{"from": "human", "value": "Q2"}, {"from": "gpt", "value": "A2"}]},
        "alpaca": {"instruction": "Q3", "output": "A3"},
        "completion": {"prompt": "Q4", "completion": "A4"},
    }
    sources = []
    for form, row in rows.items():
        (tmp_path / f"{form}.jsonl").write_text(json.dumps(row) + "\n")
        sources.append({"file": {"path": str(tmp_path / f"{form}.jsonl"), "format": form}})
    figures = make_data(configured(tmp_path, data={"sources": sources}), tmp_path, tmp_path)
    assert figures["by_source"] == [1, 1, 1, 1]
    train, _ = load_rows(tmp_path)
    answers = [tokenizer.decode(row["input_ids"][row["trained"].astype(bool)]) for row in train]
    assert answers == [f"A{number}<|im_end|>" for number in (1, 2, 3, 4)]
