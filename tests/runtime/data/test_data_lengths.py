"""Lengths, near duplicates and joined texts from the spec to what is trained: every row and every token is accounted for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from runtime.__main__ import main
from runtime.data import stage
from runtime.data.dataset import Packs, load_rows
from specgen.facts.figures import figures_of

WORDS = "one two three four five six seven eight nine ten eleven twelve"
TALK = [("user", "A?"), ("assistant", "one"), ("user", "B?"), ("assistant", "two"), ("user", "C?"), ("assistant", "three")]


@pytest.fixture
def made(tmp_path, configured, capsys):
    """Makes the data of some rows; returns figures, training rows, validation rows and what was said."""

    def make(rows, *, train=None, **data):
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        form = {"format": "text"} if "text" in rows[0] else {}
        sources = [{"file": {"path": str(tmp_path / "rows.jsonl"), **form}}]
        out = tmp_path / "data"
        out.mkdir()
        config = configured(tmp_path, data={"sources": sources, **data}, train=train or {})
        figures = stage.make_data(config, tmp_path, out)
        return figures, *load_rows(out), capsys.readouterr().out

    return make


@pytest.fixture
def spoken(tokenizer):
    """The trained words of rows."""
    return lambda rows: [tokenizer.decode(row["input_ids"][row["trained"].astype(bool)]) for row in rows]


def talk(*turns, **more):
    return {"messages": [{"role": role, "content": content} for role, content in turns], **more}


def test_a_conversation_is_split_and_counted(made, spoken):
    figures, rows, _, said = made([talk(*TALK), talk(*TALK[:2])], max_length=54, overlong="split")
    assert spoken(rows) == ["one<|im_end|>", "two<|im_end|>three<|im_end|>", "one<|im_end|>"]
    assert (figures["split"], figures["truncated"], figures["dropped"], figures["exchanges"]) == (1, 0, 0, 0)
    assert (figures["rows"], figures["examples"], figures["more_examples"]) == (2, 3, 1)
    assert "2 rows, 2 distinct" in said
    assert "1 parted · 1 more by parting or unrolling" in said


def test_an_exchange_that_is_too_long_is_held_against_truncated(made, spoken, fault_of):
    row = talk(("user", "A?"), ("assistant", "one"), ("user", "B?"), ("assistant", WORDS * 4))
    assert fault_of(made, [row], max_length=48, overlong="split") == (
        "error SG427: 100.0% of the rows would be truncated; data.limits.truncated allows 0.0%\n"
        "  hint: raise data.max_length, or data.limits.truncated"
    )


def test_an_exchange_that_is_too_long_is_counted(made, spoken):
    row = talk(("user", "A?"), ("assistant", "one"), ("user", "B?"), ("assistant", WORDS * 4))
    figures, rows, _, said = made([row], max_length=48, overlong="split", limits={"truncated": 1})
    assert spoken(rows) == ["one<|im_end|>"]
    assert (figures["exchanges"], figures["truncated"], figures["split"]) == (1, 1, 1)
    assert "1 exchanges left out" in said


def test_the_last_answer_alone_is_learned_of_a_split_conversation(made, spoken):
    figures, rows, _, _ = made([talk(*TALK)], max_length=48, overlong="split", train_on="last_assistant")
    assert spoken(rows) == ["three<|im_end|>"]
    assert figures["examples"] == 1


def test_an_unrolled_answer_that_does_not_fit_is_counted(made, spoken):
    figures, rows, _, _ = made([talk(*TALK)], max_length=54, overlong="drop", unroll=True, limits={"truncated": 1})
    assert spoken(rows) == ["one<|im_end|>", "two<|im_end|>"]
    assert (figures["dropped"], figures["truncated"]) == (0, 1)


def test_unrolled_rows_are_split_as_others_are(made, spoken):
    _, rows, _, _ = made([talk(*TALK)], max_length=48, overlong="split", unroll=True)
    assert spoken(rows) == ["one<|im_end|>", "two<|im_end|>", "three<|im_end|>"]


def test_from_the_user_every_answer_stays_whole(made, spoken):
    row = talk(("user", f"Repeat: {WORDS} {WORDS}"), ("assistant", WORDS))
    figures, rows, _, _ = made([row], max_length=56, overlong="truncate", truncate_from="user", limits={"truncated": 1})
    assert spoken(rows) == [f"{WORDS}<|im_end|>"]
    assert (figures["truncated"], len(rows[0]["input_ids"]) <= 56) == (1, True)


def test_case_o12_says_how_many_rows_are_left_out_and_why(made, case_rows):
    rows = [{"messages": row} for row in case_rows("o12.jsonl")]
    figures, kept, _, said = made(rows, max_length=64, overlong="truncate", limits={"dropped": 0.5})
    assert (len(kept), figures["dropped"], figures["unfit"]) == (1, 1, 1)
    assert "1 of 2 rows dropped: no trainable token within 64 tokens" in said


def test_case_o12_ends_before_a_model_is_loaded_where_no_row_is_left(tmp_path, compiled, case_file, monkeypatch, capsys):
    data = {
        "max_length": 16,
        "overlong": "truncate",
        "limits": {"dropped": 1},
        "sources": [{"file": {"path": str(case_file("o12.jsonl"))}}],
    }
    build = compiled(tmp_path, data=data)
    monkeypatch.setattr("sys.argv", ["specgen", str(build), "--runs-dir", str(tmp_path / "runs")])
    assert main() != 0
    assert "SG425: no row is left for training" in "".join(capsys.readouterr())
    assert not list(Path(tmp_path / "runs").rglob("train/*"))


ALIKE = [f"Tell me about the {WORDS} of the {name}." for name in ("river", "hill")]


def test_near_duplicates_are_left_out_and_counted(made, spoken):
    rows = [
        talk(("user", ALIKE[0]), ("assistant", "No.")),
        talk(("user", ALIKE[0]), ("assistant", "No!")),
        talk(("user", "Why?"), ("assistant", "So.")),
    ]
    figures, kept, _, said = made([*rows, rows[2]], near_duplicates={"threshold": 0.8})
    assert spoken(kept) == ["No.<|im_end|>", "So.<|im_end|>"]
    assert (figures["rows"], figures["near_duplicates"], figures["distinct"], figures["examples"]) == (4, 2, 2, 2)
    assert "2 near duplicates left out" in said


def test_near_duplicates_stay_where_nobody_asks(made):
    rows = [talk(("user", ALIKE[0]), ("assistant", said)) for said in ("No.", "No!")]
    assert made(rows)[0]["near_duplicates"] == 0


def test_no_validation_row_is_nearly_a_training_row(made, tokenizer):
    """Of forty pairs of rows that are nearly the same one of each is left, in training or in validation."""
    words = [f"{WORDS} number {number} {WORDS.upper()} {number * 7}" for number in range(40)]
    rows = [talk(("user", text), ("assistant", said)) for text in words for said in ("Yes.", "Yes!")]
    figures, train, held, _ = made(rows, near_duplicates={"threshold": 0.9}, validation={"fraction": 0.3})
    texts = [[tokenizer.decode(row["input_ids"]).replace("!", ".") for row in split] for split in (train, held)]
    assert figures["near_duplicates"] == 40
    assert (len(set(texts[0])), len(texts[0]) + len(texts[1])) == (len(texts[0]), 40)
    assert not set(texts[0]) & set(texts[1])
    assert len(texts[1]) > 5


TEXTS = [{"text": f"Fact {number}: {' '.join(WORDS.split()[: number % 7 + 2])}."} for number in range(60)]


def ids_of(tokenizer, row):
    return [*tokenizer(row["text"], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


@pytest.mark.parametrize("overlong", ["error", "split"])
def test_packed_texts_are_all_their_tokens(made, tokenizer, overlong):
    """Against a plain computation: texts, each with its end, cut at every 32 tokens."""
    long = {"text": f"{WORDS} " * 10}
    rows = [*TEXTS, long]
    figures, packs, _, _ = made(rows, train={"objective": "text"}, packing=True, max_length=32, overlong=overlong)
    assert isinstance(packs, Packs)
    stream = [token for row in rows for token in ids_of(tokenizer, row)]
    found = [packs[index]["input_ids"].tolist() for index in range(len(packs))]
    assert sorted(token for pack in found for token in pack) == sorted(stream)
    assert sum(map(len, found)) == figures["tokens"] == figures_of(figures).tokens == len(stream)
    assert all(len(pack) == 32 for pack in found[:-2])
    assert figures["packs"] == figures["examples"] == len(found) == -(-len(stream) // 32)


def test_packed_texts_are_in_the_order_of_the_seed(made, tokenizer):
    _, packs, _, _ = made(TEXTS, train={"objective": "text", "seed": 3}, packing=True, max_length=32)
    order = np.random.default_rng(3).permutation(len(TEXTS)).tolist()
    stream = [token for index in order for token in ids_of(tokenizer, TEXTS[index])]
    assert [token for index in range(len(packs)) for token in packs[index]["input_ids"].tolist()] == stream


def test_a_packed_text_goes_on_where_it_was_cut_and_sees_no_other(made, tokenizer):
    _, packs, _, _ = made(TEXTS, train={"objective": "text"}, packing=True, max_length=32)
    for index in range(len(packs)):
        pack = packs[index]
        starts = np.flatnonzero(pack["position_ids"] == 0)
        ends_before = [int(place) for place in np.flatnonzero(pack["input_ids"] == tokenizer.eos_token_id)]
        assert starts.tolist() == [0, *(place + 1 for place in ends_before if place + 1 < len(pack["input_ids"]))]
        assert pack["trained"].sum() == len(pack["input_ids"]) - len(starts)


def test_texts_that_count_twice_are_joined_twice(tmp_path, configured, tokenizer):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in TEXTS))
    source = {"file": {"path": str(tmp_path / "rows.jsonl"), "format": "text", "weight": 2}}
    config = configured(tmp_path, data={"sources": [source], "packing": True, "max_length": 32}, train={"objective": "text"})
    out = tmp_path / "data"
    out.mkdir()
    figures = stage.make_data(config, tmp_path, out)
    packs, _ = load_rows(out)
    assert (
        figures["tokens"]
        == 2 * sum(len(ids_of(tokenizer, row)) for row in TEXTS)
        == sum(len(packs[i]["input_ids"]) for i in range(len(packs)))
    )


def test_a_text_that_is_not_packed_is_split_into_pieces(made, tokenizer):
    long = {"text": f"{WORDS} " * 10}
    figures, rows, _, _ = made([long, TEXTS[0]], train={"objective": "text"}, max_length=32, overlong="split")
    assert [token for row in rows for token in row["input_ids"].tolist()] == ids_of(tokenizer, long) + ids_of(tokenizer, TEXTS[0])
    assert all(row["trained"].all() for row in rows)
    assert (figures["split"], figures["truncated"]) == (1, 0)


def test_conversations_learned_as_text_are_split_as_text(made):
    figures, rows, _, _ = made([talk(*TALK)], train={"objective": "text"}, max_length=8, overlong="split")
    assert (figures["split"], figures["truncated"], figures["dropped"]) == (1, 0, 0)
    assert all(row["trained"].all() for row in rows)


def test_a_histogram_counts_rows_by_eighths_of_the_longest(made):
    figures, rows, _, _ = made(TEXTS, train={"objective": "text"})
    lengths = [len(rows[index]["input_ids"]) for index in range(len(rows))]
    wanted = [0] * 8
    for length in lengths:
        wanted[(length - 1) * 8 // max(lengths)] += 1
    assert figures["histogram"] == wanted
