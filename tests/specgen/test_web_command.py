"""specgen chat --web: the program that is started, and flags that do not go together."""

from __future__ import annotations

import pytest

from specgen import launch


@pytest.fixture
def started(monkeypatch):
    """What was started instead of a program: module and words."""
    calls = []
    monkeypatch.setattr(launch, "start", lambda module, words: calls.append((module, words)) or 0)
    return calls


def test_a_models_folder_is_served_as_it_is(cli, started, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    assert cli("chat", folder, "--web", "--host", "0.0.0.0", "--port", 0).code == 0
    ((module, words),) = started
    assert module == "runtime.web" and words[:3] == [str(folder), "--runs-dir", "runs"]
    assert {"--host=0.0.0.0", "--port=0"} <= set(words)


def test_a_spec_is_compiled_for_the_page(cli, started, small, tmp_path):
    (tmp_path / "spec.yaml").write_text(small)
    assert cli("chat", "spec.yaml", "--web").code == 0
    ((module, words),) = started
    assert module == "runtime.web" and words[1:3] == ["--runs-dir", "runs"] and words[-2:] == ["--spec", "spec.yaml"]


@pytest.mark.parametrize(("flag", "value"), [("--host", "0.0.0.0"), ("--port", "8501"), ("--port", "0")])
def test_flags_of_the_page_need_the_page(cli, flag, value):
    ran = cli("chat", "spec.yaml", flag, value)
    assert ran.code == 2 and ran.err.endswith(f"Error: {flag} belongs to --web\n")


def test_flags_of_the_terminal_do_not_go_with_the_page(cli, started, tmp_path):
    ran = cli("chat", tmp_path, "--web", "--no-streamer")
    assert ran.code == 2 and ran.err.endswith("Error: --no-streamer is of the chat in the terminal: leave out --web\n")
    assert started == []
