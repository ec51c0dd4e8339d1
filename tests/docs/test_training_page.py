"""docs/reference/training.md is what the tables say."""

from __future__ import annotations

from docsite.training import page
from specgen.lr_schedules import SCHEDULES
from specgen.optimizers import OPTIMIZERS


def test_the_page_is_fresh(root):
    assert (root / "docs/reference/training.md").read_text(encoding="utf-8") == page()


def test_every_optimizer_and_schedule_has_a_row():
    rows = [line.split("|") for line in page().splitlines() if line.startswith("| ") and not line.startswith("| train.")]
    assert [row[1].strip() for row in rows] == [*OPTIMIZERS, *SCHEDULES]
