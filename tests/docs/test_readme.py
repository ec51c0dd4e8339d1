"""README.md: what it counts and lists is what is there."""

from __future__ import annotations

import re

import click
import pytest

from specgen.cli import cli
from specgen.facts.published import FOLDER
from tests.docs.test_commands import ROOT


@pytest.fixture(scope="module")
def readme():
    return (ROOT / "README.md").read_text(encoding="utf-8")


def commands(group, before=()):
    """Name → options, of all commands."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*before, name))
        else:
            yield " ".join((*before, name)), {option for parameter in command.params for option in parameter.opts}


def test_the_models_whose_shapes_come_along_are_counted(readme):
    assert f"the shapes of {len(list(FOLDER.glob('*.json')))} well-known models" in readme


def test_the_commands_that_take_a_profile_and_settings_are_listed(readme):
    both, profile = re.search(r"`--set KEY=VALUE` go with (.*?); (.*?) takes `--profile`", readme, re.DOTALL).groups()
    taking = {option: {name for name, options in commands(cli) if option in options} for option in ("--profile", "--set")}
    assert set(re.findall(r"`([a-z ]+)`", both)) == taking["--set"]
    assert set(re.findall(r"`([a-z ]+)`", profile)) == taking["--profile"] - taking["--set"]
