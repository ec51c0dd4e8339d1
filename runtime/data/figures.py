"""Figures of a tokenized data set, for the plan, the report and the lock."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from runtime.chat_template import Encoded
from runtime.data.sources import Row


def figures(rows: Sequence[Row], encoded: Sequence[Encoded], train: Sequence[int], validation: Sequence[int]) -> dict[str, Any]:
    """Counts over the training rows, with repetitions; lengths are tokens of a row, `duplicates` and `overlap` are shares.

    `rows` and `encoded` are the distinct rows; `train` and `validation` are indices into them, a repeated row's repeated.
    """
    lengths = sorted(len(encoded[index].input_ids) for index in train)
    prompts = {prompt_of(rows[index]) for index in train}
    shared = sum(prompt_of(rows[index]) in prompts for index in validation)
    return {
        "distinct": len(rows),
        "train_rows": len(train),
        "validation_rows": len(validation),
        "examples": len(train),
        "tokens": sum(lengths),
        "trained_tokens": sum(sum(encoded[index].trained) for index in train),
        "median": percentile(lengths, 0.5),
        "p90": percentile(lengths, 0.9),
        "p99": percentile(lengths, 0.99),
        "longest": lengths[-1],
        "duplicates": 1 - len(set(train)) / len(train),
        "overlap": shared / len(validation) if validation else 0.0,
    }


def percentile(ordered: Sequence[int], share: float) -> int:
    """The value that this share of the ordered values does not exceed (nearest rank)."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def prompt_of(row: Row) -> str:
    """What comes before the last answer."""
    messages = json.loads(row)
    last = max((index for index, (role, _) in enumerate(messages) if role == "assistant"), default=len(messages))
    return json.dumps(messages[:last], ensure_ascii=False)
