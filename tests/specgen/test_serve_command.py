"""specgen serve: the program that is started, with what it was given."""

from __future__ import annotations

import pytest

from specgen import launch


@pytest.fixture
def started(monkeypatch):
    """What was started instead of a program: module and words."""
    calls = []
    monkeypatch.setattr(launch, "start", lambda module, words: calls.append((module, words)) or 0)
    return calls


def test_a_spec_is_compiled_and_every_option_reaches_the_server(cli, started, small, tmp_path):
    (tmp_path / "spec.yaml").write_text(small)
    assert cli("serve", "spec.yaml", "--host", "0.0.0.0", "--port", 0, "--engine", "transformers", "--adapter", "mine").code == 0
    ((module, words),) = started
    assert module == "runtime.serve"
    assert words[1:11] == [
        "--runs-dir", "runs", "--host", "0.0.0.0", "--port", "0", "--engine", "transformers", "--adapter", "mine",
    ]  # fmt: skip


@pytest.mark.parametrize("command", [("chat",), ("serve",), ("data", "preview")])
@pytest.mark.parametrize("given", [("--profile", "p"), ("--set", "train.seed=1")])
def test_a_compiled_folder_is_taken_as_it_is(cli, started, small, tmp_path, command, given):
    (tmp_path / "spec.yaml").write_text(small)
    assert cli("compile", "spec.yaml").code == 0
    ran = cli(*command, "build/small", *given)
    assert ran.code == 2
    assert ran.err.endswith("Error: a compiled folder is taken as it is: --profile and --set belong to a spec\n")
    assert started == []


def test_a_models_folder_has_no_profile(cli, started, tmp_path):
    ran = cli("serve", tmp_path, "--profile", "zero2")
    assert ran.code == 2 and ran.err.endswith("Error: --profile and --set belong to a spec\n")
    assert started == []
