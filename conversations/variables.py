"""The variables of a rule: where their values come from, and how they are combined without making every combination."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, overload

from conversations.chance import first_shuffled
from conversations.problems import BadFile
from conversations.row import Row, messages_of
from conversations.values import file_values

RowsOf = Callable[[str], Sequence[Row]]  # name of a rule → its conversations, each once
ROLES = ("system", "user", "assistant")


class RuleFault(Exception):
    """What is wrong with a rule. `path` leads from the rule to the part; `kind` is one of file, empty variable, zip, sample,
    too many, syntax, render, empty answer, equal. `others` are the faults of other texts, where several are known at once."""

    others: tuple[RuleFault, ...] = ()

    def __init__(self, kind: str, path: tuple[str | int, ...], text: str, hint: str | None = None) -> None:
        super().__init__(text)
        self.kind, self.path, self.text, self.hint = kind, path, text, hint


def values_of(variables: Mapping[str, Any], *, rows_of: RowsOf) -> dict[str, Sequence[Any]]:
    """The values of each variable: a list, or `{range: {start, stop, step}}`, `{file: {path}}`, `{rule: {name}}`.

    A range is not made into a list. Raises RuleFault where there are none, or a file cannot be read.
    """
    return {name: _values(name, variable, rows_of) for name, variable in variables.items()}


def _values(name: str, variable: Any, rows_of: RowsOf) -> Sequence[Any]:
    if not isinstance(variable, Mapping):
        return list(variable)
    (kind, settings), path = next(iter(variable.items())), ("variables", name)
    if kind == "range":
        return numbers(**settings, path=path)
    if kind == "rule":
        return _Conversations(rows_of(settings["name"]))
    try:
        values = file_values(settings["path"])
    except OSError as error:
        raise RuleFault("file", path, f"{settings['path']} cannot be read: {error.strerror}") from None
    except BadFile as error:
        line = f", line {error.line}" if error.line else ""
        raise RuleFault("file", path, f"{settings['path']}{line}: {error.text}", error.hint) from None
    if not values:
        raise RuleFault("empty variable", path, f"{settings['path']} is empty, so that the variable {name} has no value")
    return values


def numbers(*, start: float, stop: float, step: float, path: tuple[str | int, ...] = ()) -> Sequence[int] | Sequence[float]:
    """From start to stop, stop included if the steps meet it. Integers where all three are whole, else the nearest floats of the
    exact decimals: 0.0, 0.1, 0.2, 0.3. Raises RuleFault where there are none, or too many to count."""
    first, last, by = (Fraction(str(number)) for number in (start, stop, step))
    if not by:
        raise RuleFault("empty variable", path, "the range has the step 0")
    number = math.floor((last - first) / by) + 1
    if number < 1:
        wrong = f"no number from {_written(first)} to {_written(last)} by steps of {_written(by)}"
        raise RuleFault("empty variable", path, f"the range has {wrong}", f"write step: {_written(-by)}")
    if number > sys.maxsize:
        raise RuleFault("empty variable", path, "the range has more numbers than can be counted")
    if all(value.denominator == 1 for value in (first, last, by)):
        return range(int(first), int(last) + (1 if by > 0 else -1), int(by))
    return _Decimals(first, by, number)


def _written(number: Fraction) -> str:
    return str(int(number)) if number.denominator == 1 else f"{float(number):g}"


@dataclass(frozen=True, slots=True)
class _Decimals(Sequence[float]):
    start: Fraction
    step: Fraction
    number: int

    def __len__(self) -> int:
        return self.number

    @overload
    def __getitem__(self, place: int) -> float: ...
    @overload
    def __getitem__(self, place: slice) -> list[float]: ...
    def __getitem__(self, place: int | slice) -> float | list[float]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(self.number))]
        if not 0 <= place < self.number:
            raise IndexError(place)
        return float(self.start + place * self.step)


@dataclass(frozen=True, slots=True)
class _Conversations(Sequence[dict[str, Any]]):
    """Rows as values with the parts system, user, assistant (the last text of each, or nothing) and messages."""

    rows: Sequence[Row]

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, place: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, place: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(place, slice):
            return [_parts(row) for row in self.rows[place]]
        return _parts(self.rows[place])


def _parts(row: Row) -> dict[str, Any]:
    messages = messages_of(row)
    return {**dict.fromkeys(ROLES, ""), **{message["role"]: message["content"] for message in messages}, "messages": messages}


@dataclass(frozen=True, slots=True, kw_only=True)
class Combinations:
    """Values of the variables, by their names. Those asked for are worked out from their numbers (`indices`): the last variable
    counts the units, the one before it the next digit, and so on. `of` is the number of all there are."""

    variables: Mapping[str, Sequence[Any]]
    zipped: bool
    indices: Sequence[int]
    of: int

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self.at, self.indices)

    def at(self, index: int) -> dict[str, Any]:
        """The combination of that number."""
        if self.zipped:
            return {name: values[index] for name, values in self.variables.items()}
        places = []
        for values in reversed(list(self.variables.values())):
            index, place = divmod(index, len(values))
            places.append(place)
        return {name: values[place] for (name, values), place in zip(self.variables.items(), reversed(places), strict=True)}


def combinations(
    variables: Mapping[str, Sequence[Any]], *, combine: str, sample: int | None, seed: int, at_most: int | None = None
) -> Combinations:
    """Every combination of the values, or their values side by side (zip), or a sample of so many of them by the seed.

    None is in a sample twice, and those of a smaller sample are in a larger one. Raises RuleFault where zip's variables differ
    in length, the sample is larger than all there is, or more than `at_most` are asked for.
    """
    zipped = combine == "zip"
    of = _zipped(variables) if zipped else math.prod(map(len, variables.values()))
    if sample is not None and sample > of:
        raise RuleFault("sample", ("sample",), f"sample: {sample:,} is more than the {of:,} combinations there are", f"write sample: {of}")
    number = of if sample is None else sample
    if at_most is not None and number > at_most:
        what = f"the sample has {number:,}" if sample is not None else f"the variables have {of:,}"
        hint = None if sample is not None else "sample: 10000 takes so many of them, chosen by the seed"
        path = "variables" if sample is None else "sample"
        raise RuleFault("too many", (path,), f"{what} combinations; at most {at_most:,} are allowed", hint)
    indices: Sequence[int] = range(of) if sample is None else sorted(first_shuffled(of, sample, seed))
    return Combinations(variables=variables, zipped=zipped, indices=indices, of=of)


def _zipped(variables: Mapping[str, Sequence[Any]]) -> int:
    lengths = {name: len(values) for name, values in variables.items()}
    if len(set(lengths.values())) > 1:
        each = ", ".join(f"{name} has {length:,}" for name, length in lengths.items())
        hint = "give them the same number of values, or write combine: product"
        raise RuleFault("zip", ("combine",), f"zip needs variables of one length: {each}", hint)
    return next(iter(lengths.values()), 1)
