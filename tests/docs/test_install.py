"""docs/install.md: the extras are those of the package, and the commands that are not pip's do what the page says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.docs.test_commands import PAGES, ROOT


@pytest.fixture(scope="module")
def page():
    return (ROOT / "docs/install.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def extras():
    """Extra → the names of the packages that it brings."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {name: [re.match(r"[\w-]+", need)[0] for need in needs] for name, needs in project["optional-dependencies"].items()}


def test_the_table_has_every_extra_and_what_it_brings(page, extras):
    table = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", page, re.MULTILINE))
    assert table.keys() == extras.keys()
    for extra in extras.keys() - {"train", "dev"}:
        assert table[extra] == ", ".join(extras[extra])


def test_every_extra_that_a_page_names_is_there(extras):
    texts = [path.read_text(encoding="utf-8") for path in PAGES]
    named = {extra for text in texts for names in re.findall(r"specgen\[([\w,]+)\]", text) for extra in names.split(",")}
    assert len(named) > 8
    assert named - extras.keys() == set()


def test_the_question_about_the_card_is_answered(page):
    (line,) = re.findall(r"^python (-c .*)$", page, re.MULTILINE)
    done = subprocess.run([sys.executable, *shlex.split(line)], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\d+\.\d+\.\S+ (True|False)\n", done.stdout)


def test_the_hub_can_be_told_who_you_are(page):
    (line,) = re.findall(r"^hf (.*)$", page, re.MULTILINE)
    done = subprocess.run([Path(sys.executable).with_name("hf"), *line.split(), "--help"], capture_output=True, text=True, check=True)
    assert "token" in done.stdout
