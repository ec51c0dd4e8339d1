"""Tokenized rows on disk and in batches.

The file holds each distinct row once: flat ids and trained flags with row bounds, and the order in which rows count. Where
rows are packed, it says which of that order go together.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.chat_template import Encoded
from runtime.data.packing import Packing

if TYPE_CHECKING:
    import numpy as np
    import torch

TOKENS_FILE = "tokens.safetensors"
IGNORED = -100  # the label that cross entropy leaves out


def save_rows(
    rows: Sequence[Encoded],
    train: Sequence[int],
    validation: Sequence[int],
    folder: Path,
    *,
    packs: Packing | None = None,
) -> None:
    """Writes rows, and the lists of row numbers (with repetitions) for training and validation; `packs` hold
    places in the training list."""
    import numpy as np
    from safetensors.numpy import save_file

    arrays = {
        "input_ids": np.fromiter((token for row in rows for token in row.input_ids), dtype=np.int32),
        "trained": np.fromiter((flag for row in rows for flag in row.trained), dtype=np.uint8),
        "bounds": np.cumsum([0, *(len(row.input_ids) for row in rows)], dtype=np.int64),
        "train": np.array(train, dtype=np.int64),
        "validation": np.array(validation, dtype=np.int64),
    }
    if packs is not None:
        arrays["packs"], arrays["pack_bounds"] = packs.rows, packs.bounds
    save_file(arrays, folder / TOKENS_FILE)


class Rows:
    """A map-style data set of one split: `rows[i]` is {"input_ids": int32 [T], "trained": uint8 [T]}."""

    def __init__(self, arrays: dict[str, np.ndarray[Any, Any]], split: str) -> None:
        self.arrays, self.order = arrays, arrays[split]

    def __len__(self) -> int:
        return len(self.order)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row, in order."""
        bounds = self.arrays["bounds"]
        lengths: list[int] = (bounds[self.order + 1] - bounds[self.order]).tolist()
        return lengths

    @property
    def longest(self) -> int:
        """Tokens of the longest example of both splits."""
        bounds = self.arrays["bounds"]
        return int((bounds[1:] - bounds[:-1]).max())

    def __getitem__(self, index: int) -> dict[str, np.ndarray[Any, Any]]:
        row = self.order[index]
        start, end = self.arrays["bounds"][row], self.arrays["bounds"][row + 1]
        return {"input_ids": self.arrays["input_ids"][start:end], "trained": self.arrays["trained"][start:end]}


class Packs:
    """Packed training rows: `packs[i]` has position_ids, int64 [T], too, which start again at each row.

    The first token of a row is not trained: nothing of its own row predicts it.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.places, self.bounds = rows.arrays["packs"], rows.arrays["pack_bounds"]

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @property
    def longest(self) -> int:
        """Tokens of the longest pack, or of the longest row of both splits."""
        import numpy as np

        lengths = np.diff(self.rows.arrays["bounds"])[self.rows.order][self.places]
        return max(self.rows.longest, int(np.add.reduceat(lengths, self.bounds[:-1]).max()))

    def __getitem__(self, index: int) -> dict[str, np.ndarray[Any, Any]]:
        import numpy as np

        rows = [self.rows[place] for place in self.places[self.bounds[index] : self.bounds[index + 1]]]
        lengths = [len(row["input_ids"]) for row in rows]
        trained = np.concatenate([row["trained"] for row in rows])
        trained[np.cumsum([0, *lengths[:-1]])] = 0
        return {
            "input_ids": np.concatenate([row["input_ids"] for row in rows]),
            "trained": trained,
            "position_ids": np.concatenate([np.arange(length) for length in lengths]),
        }


def load_rows(folder: Path) -> tuple[Rows | Packs, Rows]:
    """The training rows, packed if they were, and the validation rows (maybe none) of a data stage's output."""
    from safetensors.numpy import load_file

    arrays = load_file(folder / TOKENS_FILE)
    train = Rows(arrays, "train")
    return Packs(train) if "packs" in arrays else train, Rows(arrays, "validation")


def collate(rows: Sequence[dict[str, np.ndarray[Any, Any]]], *, pad_id: int, flat: bool = False) -> dict[str, torch.Tensor]:
    """Rows as a right-padded batch: input_ids and labels, int64 [B, T], and the number of real tokens, int64 [B].

    Padding is known by position, never by its id: where pad and end of turn are one token, the latter stays trained. Rows
    come with an attention_mask; packs with position_ids instead, in which the padding is a row of its own, or with `flat` one
    after another in one line (packing.py).
    """
    import torch

    if flat and "position_ids" in rows[0]:
        rows = [_one_line(rows)]
    lengths = [len(row["input_ids"]) for row in rows]
    input_ids_BT = torch.full((len(rows), max(lengths)), pad_id)
    labels_BT = torch.full_like(input_ids_BT, IGNORED)
    attention_mask_BT = torch.zeros_like(input_ids_BT)
    position_ids_BT = torch.zeros_like(input_ids_BT)
    for index, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        ids_T = torch.as_tensor(row["input_ids"].astype("int64"))
        trained_T = torch.as_tensor(row["trained"].astype(bool))
        input_ids_BT[index, :length] = ids_T
        labels_BT[index, :length] = torch.where(trained_T, ids_T, IGNORED)
        attention_mask_BT[index, :length] = 1
        if "position_ids" in row:
            position_ids_BT[index, :length] = torch.as_tensor(row["position_ids"])
            position_ids_BT[index, length:] = torch.arange(max(lengths) - length)
    apart = {"position_ids": position_ids_BT} if "position_ids" in rows[0] else {"attention_mask": attention_mask_BT}
    return {"input_ids": input_ids_BT, **apart, "labels": labels_BT, "tokens": torch.tensor(lengths)}


def _one_line(packs: Sequence[dict[str, np.ndarray[Any, Any]]]) -> dict[str, np.ndarray[Any, Any]]:
    import numpy as np

    return {name: np.concatenate([pack[name] for pack in packs]) for name in packs[0]}
