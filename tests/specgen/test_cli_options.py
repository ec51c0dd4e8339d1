import click
import pytest

from specgen.cli import cli as group
from specgen.cli.options import OfSchema
from specgen.schema import lookup

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
