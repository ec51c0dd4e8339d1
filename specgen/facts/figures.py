"""Figures of the data set that only the tokenizer can tell. A run of the data stage finds them; a lock keeps them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from specgen.plan import Plan, to_plain


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFigures:
    """Counts over the training rows, with repetitions; lengths are tokens of a row, `duplicates` and `overlap` are shares.

    `examples` is what training sees in an epoch: the rows that are left after dropping, or the packs that they fill.
    """

    rows: int
    train_rows: int
    validation_rows: int
    examples: int
    tokens: int
    trained_tokens: int
    median: int
    p90: int
    p99: int
    longest: int
    dropped: int
    truncated: int
    duplicates: float
    overlap: float

    @property
    def trained_share(self) -> float:
        """Trained tokens, as a share of all."""
        return self.trained_tokens / self.tokens


def figures_of(found: Mapping[str, object]) -> DataFigures:
    """The figures among those that the data stage or a lock gives. Raises KeyError or TypeError where one is missing."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(DataFigures):
        value = found[field.name]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{field.name} is {value!r}")
        values[field.name] = float(value) if field.type == "float" else int(value)
    return DataFigures(**values)


def data_key(plan: Plan) -> str:
    """A hash over all that the figures depend on: where it is the same, so are they."""
    data = {name: value for name, value in to_plain(plan.data).items() if name not in ("rows", "train_rows", "examples", "limits")}
    part = {
        "base": to_plain(plan.model.base),
        "template": to_plain(plan.template),
        "data": data,
        "objective": plan.train.objective,
        "seed": plan.train.seed,
    }
    return hashlib.sha256(json.dumps(part, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
