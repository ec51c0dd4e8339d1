"""Calls to copy: they mean what was meant, and a shell takes them as they are."""

from __future__ import annotations

import shlex
from pathlib import Path

from specgen.calls import call


def test_a_call_has_all_that_was_given_and_is_quoted():
    found = call(
        "compile", Path("my specs/a.yaml"), profile="p", settings=("chat.system=Be brief.", "train.seed=1"), output="o", check=None
    )
    assert found == "specgen compile 'my specs/a.yaml' --profile p --set 'chat.system=Be brief.' --set train.seed=1 --output o"
    assert shlex.split(found)[2] == "my specs/a.yaml"
    assert call("run", "build/a", runs_dir="x") == "specgen run build/a --runs-dir x"


def test_a_call_tells_no_secret():
    assert "hf_" not in call("run", "a.yaml", settings=("model.base=hf_" + "a" * 30,))


def test_a_stale_folder_is_made_again_by_the_call_that_is_told(cli, small, tmp_path):
    (tmp_path / "a b.yaml").write_text(small)
    given = ("--set", "train.epochs=1", "--output", "out", "--target", "slurm", "--set", "hardware.device=cpu")
    ran = cli("compile", "a b.yaml", *given, "--check")
    assert ran.code == 1
    told = ran.err.splitlines()[-1].partition("run: ")[2]
    assert told == "specgen compile 'a b.yaml' --target slurm --set train.epochs=1 --set hardware.device=cpu --output out"
    ran = cli(*shlex.split(told)[1:])
    assert (ran.code, ran.out.endswith("wrote out (4 files); next: specgen run out\n")) == (0, True)
    assert cli("compile", "a b.yaml", *given, "--check").code == 0


def test_check_tells_where_the_folder_is_that_it_looked_at(cli, small, tmp_path):
    (tmp_path / "a.yaml").write_text(small)
    assert cli("compile", "a.yaml", "--output", "made/small").code == 0
    (tmp_path / "made/small/plan.md").write_text("other")
    assert (
        "hint: run: specgen compile a.yaml --output made/small, and commit the folder\n" in cli("check", "a.yaml", "--builds", "made").err
    )


def test_after_a_run_the_chat_finds_the_same_run(cli, small, tmp_path, monkeypatch):
    became = []
    monkeypatch.setattr("specgen.launch.become", lambda module, words: became.append(words))
    (tmp_path / "a b.yaml").write_text(small)
    cli("run", "a b.yaml", "--set", "name=other", "--runs-dir", "out")
    cli("run", "a b.yaml")
    talks = [words[words.index("--talk") + 1] for words in became]
    assert talks == ["specgen chat 'a b.yaml' --set name=other --runs-dir out", "specgen chat 'a b.yaml'"]
