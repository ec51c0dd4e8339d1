"""docs/guides/from_*.md: the keys of ours that they name are keys of a spec, and the specs that they show are valid."""

from __future__ import annotations

import json
import re

import pytest

from specgen.schema import lookup, spec_schema

PAGES = ("from_axolotl", "from_llamafactory")
SECTIONS = "|".join(spec_schema()["properties"])
ROWS = [{"messages": [{"role": "user", "content": "Where is my order?"}, {"role": "assistant", "content": "On its way."}]}] * 8


@pytest.fixture(params=PAGES)
def page(root, request):
    return (root / "docs" / "guides" / f"{request.param}.md").read_text(encoding="utf-8")


def ours(page):
    """Keys of ours: between backticks, in the second column of the tables."""
    cells = [line.split("|")[2] for line in page.splitlines() if line.startswith("| ") and line.count("|") >= 3]
    return sorted({span for cell in cells for span in re.findall(r"`([a-z_0-9.]+)`", cell) if re.match(rf"({SECTIONS})(\.|$)", span)})


def test_every_key_of_ours_is_one(page):
    named = ours(page)
    assert len(named) > 40
    assert [key for key in named if lookup(key) is None] == []


def test_the_spec_that_is_shown_is_valid(page, cli, tmp_path):
    (spec,) = [block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if block.startswith("specgen: 1")]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "support.jsonl").write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    (tmp_path / "support.yaml").write_text(spec, encoding="utf-8")
    ran = cli("validate", "support.yaml")
    assert ran.code == 0, ran.out + ran.err
