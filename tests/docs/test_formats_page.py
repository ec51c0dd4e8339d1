"""docs/reference/formats.md: fresh, and with every format of the schema."""

from __future__ import annotations

import typing

from docsite.formats import page
from specgen.plan import Format


def test_the_committed_page_is_fresh(root):
    """After a change of conversations/formats.py: make docs"""
    assert (root / "docs/reference/formats.md").read_text(encoding="utf-8") == page()


def test_every_format_has_a_line():
    assert [line.split("`")[1] for line in page().splitlines() if line.startswith("| `")] == list(typing.get_args(Format))
