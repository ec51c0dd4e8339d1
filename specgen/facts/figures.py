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

    `examples` is what training sees in an epoch: the rows that are left after dropping, or the packs that they fill. `histogram`
    counts examples by length, in eighths of the longest, before packing. Those with a default are not in older locks.
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
    near_duplicates: int = 0
    split: int = 0
    histogram: tuple[int, ...] = ()

    @property
    def trained_share(self) -> float:
        """Trained tokens, as a share of all."""
        return self.trained_tokens / self.tokens


def figures_of(found: Mapping[str, object]) -> DataFigures:
    """The figures among those that the data stage or a lock gives. Raises KeyError or TypeError where one is missing."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(DataFigures):
        if field.name not in found and field.default is not dataclasses.MISSING:
            continue
        value = found[field.name]
        numbers = value if field.name == "histogram" and isinstance(value, list | tuple) else [value]
        if any(isinstance(number, bool) or not isinstance(number, int | float) for number in numbers):
            raise TypeError(f"{field.name} is {value!r}")
        kinds: dict[str, type] = {"float": float, "int": int, "tuple[int, ...]": tuple}
        values[field.name] = kinds[str(field.type)](value)
    return DataFigures(**values)


def data_key(plan: Plan) -> str:
    """A hash over all that the figures depend on: where it is the same, so are they."""
    data = {name: value for name, value in to_plain(plan.data).items() if name not in ("rows", "train_rows", "examples", "limits")}
    part = {
        "base": to_plain(plan.model.base),
        **({"vision": to_plain(plan.model.vision)} if plan.model.vision else {}),
        "template": to_plain(plan.template),
        "data": data,
        "objective": plan.train.objective,
        "seed": plan.train.seed,
    }
    return hashlib.sha256(json.dumps(part, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
