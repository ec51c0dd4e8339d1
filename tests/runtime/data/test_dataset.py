"""runtime/data/dataset.py: rows on disk, and in batches."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from runtime.data.dataset import IGNORED, Writer, collate, load_rows
from runtime.data.packing import best_fit
from runtime.tokens.chat_template import ChatFormat, Encoded
from tests.runtime.saved import save_rows

PAD = 2  # the end of turn, too, as in SmolLM2


def as_row(encoded):
    return {"input_ids": np.array(encoded.input_ids, dtype=np.int32), "trained": np.array(encoded.trained, dtype=np.uint8)}


@pytest.fixture(scope="module")
def batch(tokenizer, case_rows):
    """Case o08: two rows of different length, padded with the end of turn."""
    chat_format = ChatFormat(tokenizer, system=None)
    return collate([as_row(chat_format.encode(row)) for row in case_rows("o08.jsonl")], pad_id=PAD)


def test_the_end_of_turn_stays_trained_where_it_is_the_padding_too(batch, case):
    expected = case("o08")
    for row, number in enumerate((1, 2)):
        ((start, end),) = expected[f"row_{number}_trained_positions"]
        labels = batch["labels"][row]
        assert labels[start:end].tolist() == expected[f"row_{number}_trained_ids"]
        assert (labels != IGNORED).nonzero().flatten().tolist() == list(range(start, end))
    assert batch["labels"][0, 36] == PAD
    assert (batch["labels"] != IGNORED).sum() == 13


def test_labels_are_the_ids_at_their_own_positions(batch):
    kept = batch["labels"] != IGNORED
    assert torch.equal(batch["labels"][kept], batch["input_ids"][kept])


def test_attention_ends_where_padding_begins(batch, case):
    real = [case("o08")["row_1_real_tokens"], case("o08")["row_2_real_tokens"]]
    assert batch["attention_mask"].tolist() == [[1] * count + [0] * (50 - count) for count in real]
    assert batch["input_ids"].shape == (2, case("o08")["padded_length_min"])
    assert (batch["input_ids"][0, real[0] :] == PAD).all()


def test_a_batch_is_int64(batch):
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_rows_come_back_in_their_order_with_repetitions(tmp_path):
    rows = [Encoded(input_ids=[5, 6, 7], trained=[False, True, True]), Encoded(input_ids=[8], trained=[True])]
    save_rows(rows, [1, 0, 1], [0], tmp_path)
    train, validation = load_rows(tmp_path)
    assert [row["input_ids"].tolist() for row in train] == [[8], [5, 6, 7], [8]]
    assert [row["trained"].tolist() for row in train] == [[1], [0, 1, 1], [1]]
    assert [row["input_ids"].tolist() for row in validation] == [[5, 6, 7]]


def test_a_repeated_row_is_on_disk_once(tmp_path):
    rows = [Encoded(input_ids=list(range(100)), trained=[True] * 100)]
    sizes = []
    for repeat in (1, 1000):
        save_rows(rows, [0] * repeat, [], tmp_path)
        sizes.append(sum(file.stat().st_size for file in tmp_path.iterdir()))
    assert sizes[1] - sizes[0] == 999 * 8


def test_weights_are_on_disk_only_where_a_row_needs_them(tmp_path):
    even = Encoded(input_ids=[5, 6, 7], trained=[False, True, True])
    uneven = Encoded(input_ids=[8, 9], trained=[False, True], weights=[0.0, 0.5])
    for number, rows in enumerate(([even], [even, uneven], [uneven, even, even])):
        folder = tmp_path / str(number)
        folder.mkdir()
        save_rows(rows, range(len(rows)), [], folder)
        found = [row.get("weights", row["trained"]).tolist() for row in load_rows(folder)[0]]
        assert found == [[0.0, 0.5] if row is uneven else [0, 1, 1] for row in rows]
        assert (folder / "weights.bin").exists() == (uneven in rows)


def test_rows_written_in_parts_are_rows_written_at_once(tmp_path):
    parts = [([1, 2, 3], [0, 1, 1], [2, 1]), ([4, 5], [1, 1], [2]), ([], [], [])]
    with Writer(tmp_path) as writer:
        for input_ids, trained, lengths in parts:
            writer.add(np.array(input_ids), np.array(trained), None, np.array(lengths))
        writer.finish([0, 1, 2], [], None)
    assert [row["input_ids"].tolist() for row in load_rows(tmp_path)[0]] == [[1, 2], [3], [4, 5]]


def test_rows_and_packs_are_sent_to_other_processes_as_the_names_of_their_files(tmp_path):
    rows = [Encoded(input_ids=list(range(1000)), trained=[True] * 1000)]
    save_rows(rows, [0] * 50, [0], tmp_path, packs=best_fit([1000] * 50, 2000, seed=0))
    for split in load_rows(tmp_path):
        sent = pickle.dumps(split)
        assert len(sent) < 500
        assert pickle.loads(sent)[0]["input_ids"].tolist() == split[0]["input_ids"].tolist()


def test_weights_of_a_batch_and_of_a_pack_are_those_of_their_rows(tmp_path):
    rows = [
        Encoded(input_ids=[5, 6, 7], trained=[False, True, True], weights=[0.0, 2.0, 2.0]),
        Encoded(input_ids=[8, 9], trained=[True, True]),
    ]
    save_rows(rows, [0, 1], [1], tmp_path, packs=best_fit([3, 2], 5, seed=0))
    packs, alone = load_rows(tmp_path)
    assert collate([packs[0]], pad_id=PAD)["weights"].tolist() == [[0, 2, 2, 0, 1]]
    batch = collate([alone[0], {name: values[:1] for name, values in alone[0].items()}], pad_id=PAD)
    assert batch["weights"].tolist() == [[1, 1], [1, 0]]
    assert batch["weights"].dtype == torch.float32
