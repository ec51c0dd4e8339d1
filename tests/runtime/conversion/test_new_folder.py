"""Folders that commands write: whole, or not there, and nothing else is touched."""

from __future__ import annotations

import errno
import signal
from pathlib import Path

import pytest

from runtime.conversion import new_folder
from runtime.conversion.new_folder import copy_small_files, written_aside
from runtime.faults import OURS, RunFault, exit_code_of


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


def test_what_cannot_be_read_meanwhile_is_not_blamed_on_the_new_folder(tmp_path):
    for error in (
        PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "base" / "tokenizer.json")),
        OSError("a fault of ours"),
    ):
        with pytest.raises(OSError) as caught, written_aside(tmp_path / "out"):
            raise error
        assert caught.value is error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [None, "weights.safetensors"])
def test_a_disk_that_is_full_is_told_as_that_of_the_new_folder(tmp_path, name):
    with pytest.raises(RunFault) as caught, written_aside(tmp_path / "out") as aside:
        raise (
            OSError(errno.ENOSPC, "No space left on device")
            if name is None
            else PermissionError(errno.EACCES, "No space left on device", str(aside / name))
        )
    assert str(caught.value) == f"error SG459: {tmp_path}/out cannot be written: No space left on device\n  hint: give another folder"


def test_a_small_file_that_cannot_be_read_is_named(tmp_path, monkeypatch, fault_of):
    def denied(file, _to):
        raise PermissionError(errno.EACCES, "Permission denied", str(file))

    (tmp_path / "tokenizer.json").touch()
    monkeypatch.setattr(new_folder.shutil, "copyfile", denied)
    assert fault_of(copy_small_files, tmp_path, tmp_path / "out") == (
        f"error SG441: {tmp_path}/tokenizer.json cannot be read: Permission denied"
    )
