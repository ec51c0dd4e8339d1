import click
import pytest

from specgen.cli import cli as group
from specgen.cli.options import OfSchema
from specgen.commands.numbers import NumberOfSchema
from specgen.schema import keys as spec_keys
from specgen.schema import lookup, types

OPTIONS = {
    f"{name} {option.opts[0]}": option
    for name, command in group.commands.items()
    for option in command.params
    if isinstance(option, OfSchema)
}


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_that_stands_for_a_key_of_the_spec_has_its_choices(name):
    option = OPTIONS[name]
    choices = option.type.choices if isinstance(option.type, click.Choice) else None
    assert (list(choices) if choices else None) == lookup(option.key).get("enum")


def test_a_number_that_is_a_key_of_the_section_chat_takes_what_the_key_takes():
    numbers = {f"chat.{option.name}": option for option in group.commands["chat"].params if isinstance(option, NumberOfSchema)}
    keys = {name: schema for name, schema in spec_keys() if name.startswith("chat.") and {"integer", "number"} & {*types(schema)}}
    assert numbers.keys() == keys.keys()
    for name, option in numbers.items():
        option.get_help_record(click.Context(group.commands["chat"]))
        kept, schema = option.type, keys[name]
        assert (kept.min, kept.max) == (schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum"))
        assert (kept.min_open, isinstance(kept, click.IntRange)) == ("exclusiveMinimum" in schema, "integer" in types(schema))


def test_help_shows_the_range(cli):
    shown = " ".join(cli("chat", "--help").out.split())
    assert "--top-p P Sample among this probability. [0<x<=1]" in shown
    assert "--seed N Seed of the sampling. [0<=x<=4294967295]" in shown
