"""docs/gitops.md: what it shows is what happens, and what it names is there."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.gitops.conftest import rows
from tests.gitops.test_gates import MEMORY_DIFF, TOO_LARGE
from tests.gitops.test_repository import DIFF, changed


@pytest.fixture(scope="module")
def page(root):
    return (root / "docs/gitops.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def configurations(page):
    """The YAML blocks: pre-commit's, then the workflow."""
    return [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]


def test_the_change_is_told_as_on_the_page(repository, page):
    assert changed(repository).specgen("diff", "--git", "main..longer").out == DIFF
    assert f"$ specgen diff --git main..longer\n{DIFF}```" in page


def test_a_stale_folder_is_told_as_on_the_page(repository, page):
    repository.replace("spec", "epochs: 2", "epochs: 3")
    assert f"$ specgen check specs/support.yaml\n{repository.specgen('check', 'specs/support.yaml').err}```" in page


def test_what_does_not_fit_is_told_as_on_the_page(page):
    assert f"$ specgen diff --git main..longer-rows\n{MEMORY_DIFF}{TOO_LARGE}```" in page  # test_gates.py holds the two


def test_a_typo_is_told_as_on_the_page(repository, page):
    repository.replace("spec", "learning_rate", "learnng_rate")
    ran = repository.specgen("check", "specs/support.yaml", "--format", "github")
    assert f"--format github\n{ran.out}```" in page


def test_a_drifted_lock_is_told_as_on_the_page(repository, page):
    repository.write(data=rows(40) + '{"messages": [{"role": "user", "content": "New?"}, {"role": "assistant", "content": "Yes."}]}\n')
    told = repository.specgen("check", "specs/support.yaml").err
    place = re.compile(r"specs/support\.lock\.yaml:\d+:1: |^ +\d+ \| data:", re.MULTILINE)
    shown = next(block for block in page.split("```") if "error SG295" in block).partition("support.yaml\n")[2]
    assert place.sub("", shown) in place.sub("", told)


def test_the_readme_has_the_drifted_lock_of_the_page(page, root):
    shown = next(block for block in page.split("```") if "error SG295" in block)
    assert shown in (root / "README.md").read_text(encoding="utf-8").split("```")


def test_hooks_of_the_page_are_there(configurations, root):
    known = {hook["id"] for hook in yaml.safe_load((root / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))}
    assert {hook["id"] for hook in configurations[0]["repos"][0]["hooks"]} == known


def test_the_workflow_and_the_table_name_inputs_that_the_action_has(configurations, page, root):
    inputs = yaml.safe_load((root / "action.yml").read_text(encoding="utf-8"))["inputs"]
    assert re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE) == list(inputs)
    assert set(configurations[1]["jobs"]["specs"]["steps"][1]["with"]) <= set(inputs)
