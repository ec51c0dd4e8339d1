"""Folders that commands write: whole, or not there, and nothing else is touched."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from runtime.faults import OURS, RunFault, exit_code_of
from runtime.new_folder import written_aside


def test_a_folder_has_its_name_when_it_is_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out.partial").mkdir()  # a user's own
    (tmp_path / "out.partial" / "x").write_text("precious")
    with written_aside(tmp_path / "out") as aside:
        (aside / "a").write_text("1")
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out" / "a").read_text() == "1"
    assert (tmp_path / "out.partial" / "x").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.partial"]


def test_an_empty_folder_is_taken_where_one_stands_too(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    with written_aside(Path()) as aside:
        (aside / "a").write_text("1")
    assert (tmp_path / "out" / "a").read_text() == "1"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_of_one_that_was_not_finished(tmp_path, number):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises((SystemExit, KeyboardInterrupt)), written_aside(tmp_path / "out"):
        signal.raise_signal(number)
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGTERM) == before


def test_where_nothing_can_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFault) as caught, written_aside(tmp_path / "file" / "out"):
        pass
    assert str(caught.value) == f"error SG459: {tmp_path}/file/out cannot be written: File exists\n  hint: give another folder"


def test_a_fault_of_ours_has_an_exit_code_of_its_own(capsys):
    def fails():
        raise AssertionError("never so")

    assert exit_code_of(fails) == OURS == 3
    assert "AssertionError: never so" in capsys.readouterr().err
