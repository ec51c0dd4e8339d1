"""The README and the pages under docs/: commands of ours are there, with the options that they are shown with; links lead to files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from specgen.cli import cli

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
WRONG_ONES_TOO = ("checks.md",)  # it shows what is refused, as well; tests/specgen/test_examples.py tries it


def commands(text):
    """Calls of the command line: between backticks, or at the beginning of a line of an example."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    shown = {line for block in blocks for line in re.findall(r"^(?:\$ )?(specgen [a-z-].*)$", block, re.MULTILINE)}
    return sorted({*re.findall(r"`(specgen [^`\n]+)`", text), *shown})


def words_of(line):
    """The words behind `specgen`, up to what a shell makes of the rest."""
    line = re.split(r" (?:\||&&|>|#) ?", line)[0]
    return shlex.split(line)[1:]


def test_commands_are_found_in_text_and_examples():
    text = "`specgen run SPEC --push`\n```\n$ specgen list | head\nspecgen plan a.yaml  # first\n```\nspecgen is a compiler\n"
    assert [words_of(line) for line in commands(text)] == [["list"], ["plan", "a.yaml"], ["run", "SPEC", "--push"]]


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in WRONG_ONES_TOO], ids=lambda page: page.stem)
def test_every_command_and_option_that_a_page_shows_is_there(page):
    lacking = []
    for line in commands(page.read_text(encoding="utf-8")):
        command: click.Command = cli
        words = words_of(line)
        while words and isinstance(command, click.Group) and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        given = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)} | {"--help", "-h"}
        if given - known or (isinstance(command, click.Group) and words and not words[0].startswith("-")):
            lacking.append(line)
    assert lacking == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_files(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = {target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target}
    assert [target for target in sorted(targets) if target and not (page.parent / target).exists()] == []
