"""Figures of a tokenized data set, for the plan, the report and the lock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from conversations.row import Row, parted
from runtime.chat_template import Encoded
from runtime.data.packing import Packing, fill


def figures(
    rows: Sequence[Row],
    encoded: Sequence[Encoded],
    train: Sequence[int],
    validation: Sequence[int],
    packs: Packing | None,
    max_length: int,
) -> dict[str, Any]:
    """Counts over the rows that are left for training, with repetitions; lengths are tokens of a row, `duplicates`,
    `overlap` and `fill` are shares.

    `rows` and `encoded` are the distinct rows; `train` and `validation` are indices into them, a repeated row's repeated.
    """
    lengths = [len(encoded[index].input_ids) for index in train]
    ordered = sorted(lengths)
    prompts = {parted(rows[index])[0] for index in set(train)} if validation else set()
    shared = sum(parted(rows[index])[0] in prompts for index in validation)
    trained = [sum(row.trained) for row in encoded]
    return {
        "distinct": len(rows),
        "examples": len(train) if packs is None else len(packs),
        "packs": None if packs is None else len(packs),
        "fill": None if packs is None else fill(lengths, packs, max_length),
        "tokens": sum(lengths),
        "trained_tokens": sum(trained[index] for index in train),
        "median": percentile(ordered, 0.5),
        "p90": percentile(ordered, 0.9),
        "p99": percentile(ordered, 0.99),
        "longest": ordered[-1],
        "duplicates": 1 - len(set(train)) / len(train),
        "overlap": shared / len(validation) if validation else 0.0,
    }


def percentile(ordered: Sequence[int], share: float) -> int:
    """The value that this share of the ordered values does not exceed (nearest rank)."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
