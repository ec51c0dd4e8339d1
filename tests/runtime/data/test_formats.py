"""Rows of files of every format and kind reach the token file."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
from pyarrow import parquet


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


def test_the_same_rows_in_any_kind_of_file_are_the_same_tokens(tmp_path, configured):
    from runtime.data.dataset import load_rows
    from runtime.data.stage import make_data

    rows = [{"question": f"Q{number}", "answer": f"A{number}, é"} for number in range(3)]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (tmp_path / "a.jsonl").write_text("\ufeff" + lines.replace("\n", "\r\n\r\n"))
    (tmp_path / "b.json").write_text(json.dumps(rows, indent=1))
    (tmp_path / "c.csv").write_text("question;answer\n" + "".join(f"{row['question']};{row['answer']}\n" for row in rows))
    (tmp_path / "d.gz").write_bytes(gzip.compress(lines.encode()))
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "e")
    row = [{"user": "{{ question }}"}, {"assistant": "{{ answer }}"}]
    tokens = []
    for name in ("a.jsonl", "b.json", "c.csv", "d.gz", "e"):
        out = tmp_path / f"out-{name}"
        out.mkdir()
        make_data(configured(tmp_path, data={"sources": [{"file": {"path": str(tmp_path / name), "row": row}}]}), tmp_path, out)
        tokens.append([found["input_ids"].tolist() for found in load_rows(out)[0]])
    assert len(tokens[0]) == 3
    assert all(found == tokens[0] for found in tokens)
