"""runtime/data/dataset.py: rows on disk, and in batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from runtime.chat_template import ChatFormat, Encoded
from runtime.data.dataset import IGNORED, TOKENS_FILE, collate, load_rows, save_rows

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
        sizes.append((tmp_path / TOKENS_FILE).stat().st_size)
    assert sizes[1] - sizes[0] <= 999 * 8 + 64
