"""What a sweep varies, from the section `sweep` of a complete tree: parameters, their values and how many combinations there are."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from specgen.diagnostics import Place
from specgen.schema import lookup, types
from specgen.source import Node

Method = Literal["grid", "random", "optuna"]
Metric = Literal["validation_loss", "train_loss", "smoke"]
Kept = Literal["best", "all"]

DIGITS = 4  # of a number that is drawn: enough for a setting, and short enough to read and copy


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Numbers from `low` to `high`, both included; `whole` ones where the key takes nothing else."""

    low: float
    high: float
    log: bool
    step: float | None
    whole: bool

    @property
    def count(self) -> int | None:
        """How many numbers it holds; None where only rounding ends them."""
        step = self.step or (1 if self.whole else None)
        return None if step is None else math.floor((self.high - self.low) / step + 1e-9) + 1

    def at(self, position: float) -> float | int:
        """The number at a position from 0 up to, not including, 1; evenly, on a logarithmic scale where that is asked for."""
        if self.log:
            drawn = math.exp(math.log(self.low) + position * (math.log(self.high) - math.log(self.low)))
        elif self.count is not None:
            drawn = self.low + int(position * self.count) * (self.step or 1)
        else:
            drawn = self.low + position * (self.high - self.low)
        return self.settled(drawn)

    def settled(self, drawn: float) -> float | int:
        """A number as it goes into the spec: whole, or of four significant digits, and inside the range."""
        inside = min(max(drawn, self.low), self.high)
        return round(inside) if self.whole else min(max(float(f"{inside:.{DIGITS}g}"), self.low), self.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A key of the spec with dots. `values` are those of a list; of a range, its two ends."""

    path: str
    key: Place | None
    place: Place | None
    values: tuple[Node, ...]
    range: Range | None

    @property
    def count(self) -> int | None:
        """How many values there are, or None for as many as there are numbers."""
        return self.range.count if self.range else len(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """The section as it was written. `asked` is how many trials it asks for; None for a grid, which has as many as it has, and no
    seed; `n_startup_trials` is Optuna's alone."""

    method: Method
    asked: int | None
    seed: int | None
    n_startup_trials: int | None
    metric: Metric
    keep_merged: Kept
    parameters: tuple[Parameter, ...]
    place: Place | None

    @property
    def combinations(self) -> int | None:
        """How many different trials there are; None where a parameter has no end of values."""
        counts = [parameter.count for parameter in self.parameters]
        return None if None in counts else math.prod(count for count in counts if count is not None)

    @property
    def trials(self) -> int:
        """How many trials there will be."""
        combinations = self.combinations
        if self.asked is None:
            assert combinations is not None, self.parameters
            return combinations
        return self.asked if combinations is None else min(self.asked, combinations)


def sweep_of(tree: Node) -> Sweep | None:
    """The sweep of a complete tree, None where it has none."""
    section = tree.children["sweep"]
    if section.value is None:
        return None
    written = section.plain()
    assert isinstance(written, dict), written
    ((method, settings),) = written["method"].items()
    return Sweep(
        method=method,
        asked=settings.get("trials"),
        seed=settings.get("seed"),
        n_startup_trials=settings.get("n_startup_trials"),
        metric=written["metric"],
        keep_merged=written["keep_merged"],
        parameters=tuple(_parameter(path, node) for path, node in section.children["parameters"].children.items()),
        place=section.key or section.place,
    )


def _parameter(path: str, node: Node) -> Parameter:
    if isinstance(node.value, list):
        return Parameter(path=path, key=node.key, place=node.place, values=tuple(node.value), range=None)
    step = node.children["step"].value
    found = Range(
        low=node.real("low"),
        high=node.real("high"),
        log=node.children["log"].value is True,
        step=float(step) if isinstance(step, int | float) else None,
        whole=_takes_whole_numbers(path),
    )
    ends = tuple(replace(node.children[end], value=_end(node.real(end), found)) for end in ("low", "high"))
    return Parameter(path=path, key=node.key, place=node.place, values=ends, range=found)


def _end(number: float, found: Range) -> float | int:
    return int(number) if found.whole and number.is_integer() else number


def _takes_whole_numbers(path: str) -> bool:
    kinds = kinds_of(path)
    return "integer" in kinds and "number" not in kinds


def kinds_of(path: str) -> list[str]:
    """The types that a key of the spec takes; none where the schema does not know it."""
    schema = lookup(path)
    return types(schema) if schema else []
