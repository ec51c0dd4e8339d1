"""Options for numbers whose range is that of a key of the spec."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import Any

import click


class NumberOfSchema(click.Option):
    """An option for a number that a key of the spec takes, too, in its range. schemas/ is read where one is given, or --help asks."""

    def __init__(self, names: Sequence[str], *, key: str, **settings: Any) -> None:
        super().__init__(names, **settings)
        self.key = key

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """The number. Raises BadParameter for what the key does not take."""
        if value is not None:
            self.type = numbers_of(self.key)
        return super().type_cast_value(ctx, value)

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """With the range."""
        self.type = numbers_of(self.key)
        return super().get_help_record(ctx)


def numbers_of(key: str) -> click.IntRange | click.FloatRange:
    """The numbers that a key of the spec takes."""
    from specgen.schema import lookup, types

    schema = lookup(key)
    assert schema is not None, key
    open_ends = {"min_open": "exclusiveMinimum" in schema, "max_open": "exclusiveMaximum" in schema}
    low, high = (schema.get(end, schema.get(f"exclusive{end.capitalize()}")) for end in ("minimum", "maximum"))
    kind = click.IntRange if "integer" in types(schema) else _Within
    return kind(min=low, max=high, **open_ends)


class _Within(click.FloatRange):
    """A range of numbers: click's own takes nan for one in every range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if isnan(number):
            self.fail(f"{value} is no number.", param, ctx)
        return number
