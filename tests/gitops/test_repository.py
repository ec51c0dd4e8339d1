"""A repository of specs, with git itself: a change, a stale build, a drifted lock, a failing gate, a typo."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.gitops.conftest import rows

DIFF = """\
specs/support.yaml
  train.epochs         2 → 3        20 → 30 steps
  train.learning_rate  2e-4 → 1e-4
  runs again: train, convert, merge, smoke, report
"""


def changed(repository):
    """A branch on which the support model trains longer, with its compiled folder."""
    repository.git("checkout", "-qb", "longer")
    repository.replace("spec", "epochs: 2", "epochs: 3")
    repository.replace("spec", "2.0e-4", "1.0e-4")
    assert repository.specgen("compile", "specs/support.yaml").code == 0
    repository.commit("Train longer")
    return repository


def test_a_change_says_what_it_means(repository):
    ran = changed(repository).specgen("diff", "--git", "main..longer")
    assert (ran.code, ran.out, ran.err) == (0, DIFF, "")


def test_another_template_says_how_many_rows_it_renders_otherwise(repository):
    repository.git("checkout", "-qb", "template")
    repository.replace("spec", "template: chatml", "template: llama3")
    repository.commit("Another template")
    ran = repository.specgen("diff", "--git", "main..template")
    assert ran.code == 0
    assert "  template  chatml → llama3\n" in ran.out
    assert "  the trained span or its context differs in 40 of 40 distinct rows\n" in ran.out
    assert ran.out.endswith("  runs again: data, train, convert, merge, smoke, report\n")


def test_what_is_committed_is_checked(repository):
    ran = changed(repository).specgen("check", "specs/support.yaml")
    assert (ran.code, ran.out) == (0, "1 spec valid, 1 compiled folder up to date\n")


def test_a_stale_build_is_refused_and_the_command_named(repository):
    repository.replace("spec", "epochs: 2", "epochs: 3")
    ran = repository.specgen("check", "specs/support.yaml")
    assert ran.code == 1
    assert ran.err == (
        "specs/support.yaml:1:1: error SG303: build/support is not what this spec compiles to: config.yaml, plan.md differ\n"
        "    1 | # Answers questions about our product.\n"
        "      | ^\n"
        "  hint: run: specgen compile specs/support.yaml, and commit the folder\n"
    )
    assert repository.specgen("compile", "specs/support.yaml", "--check").code == 1


def test_more_rows_show_in_the_plan_that_is_reviewed(repository):
    repository.write(data=rows(60))
    assert repository.specgen("lock", "specs/support.yaml", "--update", "data").code == 0
    assert repository.specgen("compile", "specs/support.yaml").code == 0
    shown = repository.git("diff", "--unified=0", "--", "build/support/plan.md")
    assert "-| rows to train on | 40 |\n" in shown
    assert "+| rows to train on | 60 |\n" in shown
    assert "+| optimizer steps | 30 (2.0 epochs x 15), 1 of them warm-up |\n" in shown


@pytest.mark.parametrize("command", [("compile", "specs/support.yaml", "--locked"), ("run", "specs/support.yaml")])
def test_a_drifted_lock_is_refused_and_what_changed_is_named(repository, command):
    repository.write(data=rows(41))
    ran = repository.specgen(*command)
    assert ran.code == 2
    assert "error SG295: the data are not the locked ones: data/support.jsonl " in ran.err
    assert "  hint: if that is meant: specgen lock specs/support.yaml --update data\n" in ran.err


def test_a_drifted_lock_fails_the_check_before_it_is_merged(repository):
    repository.write(data=rows(41))
    ran = repository.specgen("check", "specs/support.yaml")
    assert (ran.code, ran.out) == (2, "")
    assert "specs/support.lock.yaml:" in ran.err
    assert "error SG295: the data are not the locked ones: data/support.jsonl " in ran.err
    assert " (40 → 41 rows)\n" in ran.err


def test_the_check_is_content_once_the_lock_is_renewed(repository):
    repository.write(data=rows(41))
    assert repository.specgen("lock", "specs/support.yaml", "--update", "data").code == 0
    assert repository.specgen("compile", "specs/support.yaml").code == 0
    ran = repository.specgen("check", "specs/support.yaml")
    assert (ran.code, ran.out) == (0, "1 spec valid, 1 compiled folder up to date\n")


def test_a_typo_is_an_annotation_at_its_line(repository):
    repository.replace("spec", "learning_rate", "learnng_rate")
    ran = repository.specgen("check", "specs/support.yaml", "--format", "github")
    assert ran.code == 2
    assert ran.out.startswith("::error ")
    assert "file=specs/support.yaml,line=17,endLine=17,col=3,endColumn=15,title=SG101::" in ran.out
    assert "did you mean 'learning_rate'?" in ran.out


GH = """\
#!{python}
# stands in for GitHub's own command: writes down how it was called, and what the comment would say
import json, os, sys
body = next((word[len("body=@"):] for word in sys.argv if word.startswith("body=@")), None)
call = {{"arguments": sys.argv[1:], "body": open(body).read() if body else None}}
with open(os.environ["GH_CALLS"], "a") as stream:
    stream.write(json.dumps(call) + "\\n")
if "--jq" in sys.argv:
    print(os.environ.get("GH_FOUND", ""))
"""


@pytest.fixture
def review(repository, root, tmp_path):
    """Runs the action's script as a job does; `gh` and `specgen` are on the path."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "gh").write_text(GH.format(python=sys.executable))
    (binaries / "specgen").write_text(f'#!/bin/sh\nexec {sys.executable} -m specgen "$@"\n')
    for file in binaries.iterdir():
        file.chmod(file.stat().st_mode | stat.S_IXUSR)

    def run(**environment):
        summary, calls = tmp_path / "summary.md", tmp_path / "calls"
        calls.unlink(missing_ok=True)
        ran = repository.run(
            "bash",
            str(root / "action/review.sh"),
            PATH=f"{binaries}:{os.environ['PATH']}",
            GITHUB_STEP_SUMMARY=str(summary),
            GITHUB_REPOSITORY="team/product",
            GH_CALLS=str(calls),
            **environment,
        )
        written = [yaml.safe_load(line) for line in calls.read_text().splitlines()] if calls.exists() else []
        return ran, summary.read_text() if summary.exists() else "", written

    return run


SUMMARY = """\
<!-- specgen -->
## What this change means

### specs/support.yaml

| setting | change | what follows |
|---|---|---|
| train.epochs | 2 → 3 | 20 → 30 steps |
| train.learning\\_rate | 2e-4 → 1e-4 |  |

Runs again: train, convert, merge, smoke, report.
"""


def test_the_action_writes_a_summary_and_a_comment(repository, review):
    changed(repository)
    ran, summary, calls = review(BASE="main", COMMENT="true", PULL_REQUEST="7")
    assert (ran.code, ran.err) == (0, "1 spec valid, 1 compiled folder up to date\n")
    assert summary == SUMMARY
    assert [call["arguments"][:4] for call in calls] == [
        ["api", "repos/team/product/issues/7/comments", "--paginate", "--jq"],
        ["api", "--silent", "--method", "POST"],
    ]
    assert calls[1]["body"] == SUMMARY


def test_the_action_renews_its_own_comment(repository, review):
    changed(repository)
    _, _, calls = review(BASE="main", COMMENT="true", PULL_REQUEST="7", GH_FOUND="123")
    assert calls[1]["arguments"][2:5] == ["--method", "PATCH", "repos/team/product/issues/comments/123"]


def test_the_action_fails_for_a_stale_build_and_still_tells_the_change(repository, review):
    repository.git("checkout", "-qb", "stale")
    repository.replace("spec", "epochs: 2", "epochs: 3")
    repository.commit("Forgot to compile")
    ran, summary, calls = review(BASE="main", COMMENT="false")
    assert ran.code == 1
    assert "title=SG303::build/support is not what this spec compiles to" in ran.out
    assert "| train.epochs | 2 → 3 | 20 → 30 steps |" in summary
    assert calls == []


def test_the_action_needs_specs(review):
    ran, _, _ = review(SPECS="nothing/*.yaml")
    assert (ran.code, ran.out) == (2, "::error::no spec matches nothing/*.yaml\n")


def test_the_actions_description_is_whole(root):
    action = yaml.safe_load((root / "action.yml").read_text(encoding="utf-8"))
    assert action["runs"]["using"] == "composite"
    for step in action["runs"]["steps"]:
        assert "uses" in step or step["shell"] == "bash"
    assert action["runs"]["steps"][-1]["run"] == "${{ github.action_path }}/action/review.sh"
    assert os.access(root / "action/review.sh", os.X_OK)
    assert all(value["description"].endswith(".") for value in action["inputs"].values())


def test_the_actions_script_is_sound(root):
    done = subprocess.run([Path(sys.executable).with_name("shellcheck"), root / "action/review.sh"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def hooks(root):
    return yaml.safe_load((root / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))


def test_hooks_run_as_pre_commit_would(repository, root):
    for hook in hooks(root):
        program, verb = hook["entry"].split()
        assert (program, hook["language"]) == ("specgen", "python")
        ran = repository.specgen(verb, "specs/support.yaml")
        assert (ran.code, ran.err) == (0, ""), hook["id"]


def test_hooks_stop_a_commit(repository, root):
    repository.replace("spec", "epochs: 2", "epochz: 2")
    codes = {hook["id"]: repository.specgen(hook["entry"].split()[1], "specs/support.yaml").code for hook in hooks(root)}
    assert codes == {"specgen-validate": 2, "specgen-fmt": 0, "specgen-check": 2}
