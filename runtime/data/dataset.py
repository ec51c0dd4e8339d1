"""Tokenized rows on disk and in batches.

The file holds each distinct row once: flat ids and trained flags with row bounds, and the order in which rows count.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.chat_template import Encoded

if TYPE_CHECKING:
    import numpy as np
    import torch

TOKENS_FILE = "tokens.safetensors"
IGNORED = -100  # the label that cross entropy leaves out


def save_rows(rows: Sequence[Encoded], train: Sequence[int], validation: Sequence[int], folder: Path) -> None:
    """Writes rows, and the lists of row numbers (with repetitions) for training and validation."""
    import numpy as np
    from safetensors.numpy import save_file

    bounds = np.cumsum([0, *(len(row.input_ids) for row in rows)], dtype=np.int64)
    save_file(
        {
            "input_ids": np.array([token for row in rows for token in row.input_ids], dtype=np.int32),
            "trained": np.array([flag for row in rows for flag in row.trained], dtype=np.uint8),
            "bounds": bounds,
            "train": np.array(train, dtype=np.int64),
            "validation": np.array(validation, dtype=np.int64),
        },
        folder / TOKENS_FILE,
    )


class Rows:
    """A map-style data set of one split: `rows[i]` is {"input_ids": int32 [T], "trained": uint8 [T]}."""

    def __init__(self, arrays: dict[str, np.ndarray[Any, Any]], split: str) -> None:
        self.arrays, self.order = arrays, arrays[split]

    def __len__(self) -> int:
        return len(self.order)

    @property
    def longest(self) -> int:
        """Tokens of the longest row of both splits."""
        bounds = self.arrays["bounds"]
        return int((bounds[1:] - bounds[:-1]).max())

    def __getitem__(self, index: int) -> dict[str, np.ndarray[Any, Any]]:
        row = self.order[index]
        start, end = self.arrays["bounds"][row], self.arrays["bounds"][row + 1]
        return {"input_ids": self.arrays["input_ids"][start:end], "trained": self.arrays["trained"][start:end]}


def load_rows(folder: Path) -> tuple[Rows, Rows]:
    """The training rows and the validation rows (maybe none) of a data stage's output."""
    from safetensors.numpy import load_file

    arrays = load_file(folder / TOKENS_FILE)
    return Rows(arrays, "train"), Rows(arrays, "validation")


def collate(rows: Sequence[dict[str, np.ndarray[Any, Any]]], *, pad_id: int) -> dict[str, torch.Tensor]:
    """Rows as a right-padded batch: input_ids, attention_mask and labels, int64 [B, T].

    Padding is known by position, never by its id: where pad and end of turn are one token, the latter stays trained.
    """
    import torch

    longest = max(len(row["input_ids"]) for row in rows)
    input_ids_BT = torch.full((len(rows), longest), pad_id)
    labels_BT = torch.full((len(rows), longest), IGNORED)
    attention_mask_BT = torch.zeros((len(rows), longest), dtype=torch.int64)
    for index, row in enumerate(rows):
        length = len(row["input_ids"])
        ids_T = torch.as_tensor(row["input_ids"].astype("int64"))
        trained_T = torch.as_tensor(row["trained"].astype(bool))
        input_ids_BT[index, :length] = ids_T
        labels_BT[index, :length] = torch.where(trained_T, ids_T, IGNORED)
        attention_mask_BT[index, :length] = 1
    return {"input_ids": input_ids_BT, "attention_mask": attention_mask_BT, "labels": labels_BT}
