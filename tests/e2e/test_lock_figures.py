"""specgen lock --figures: the data stage's figures go into the lock, and from there into plan.md."""

from __future__ import annotations

import shutil

import pytest
import yaml

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def locked(process, root, tmp_path_factory):
    """A copy of the default spec that packs its rows, with a lock that has the figures."""
    folder = tmp_path_factory.mktemp("locked")
    shutil.copy(root / "specs/assistant.yaml", folder / "spec.yaml")
    text = (folder / "spec.yaml").read_text().replace("max_length: 512", "max_length: 64\n  overlong: drop")
    (folder / "spec.yaml").write_text(text)
    ran = process("lock", "spec.yaml", "--figures", cwd=folder, SPECGEN_CACHE=str(folder / "cache"))
    assert (ran.code, ran.out) == (0, "wrote spec.lock.yaml; next: commit it beside the spec\n")
    return folder


def test_the_lock_has_the_figures(locked):
    figures = yaml.safe_load((locked / "spec.lock.yaml").read_text())["figures"]
    assert (figures["tokens"], figures["examples"], figures["longest"]) == (3815, 80, 50)


def test_the_plan_that_a_reviewer_reads_has_them(locked, process):
    assert process("compile", "spec.yaml", "--locked", cwd=locked).code == 0
    plan = (locked / "build/assistant/plan.md").read_text()
    assert "| optimizer steps | 30 (3.0 epochs x 10), 2 of them warm-up |" in plan
    assert "| tokens in an epoch | 3,815, 24.1 % trained |" in plan


def test_figures_of_other_data_are_not_taken(locked, process):
    ran = process("compile", "spec.yaml", "--set", "data.max_length=49", "--output", "other", cwd=locked)
    assert ran.code == 0
    plan = (locked / "other/plan.md").read_text()
    assert "| optimizer steps | unknown (3.0 epochs x unknown), 0.05 of them warm-up |" in plan
    assert "tokens in an epoch" not in plan
