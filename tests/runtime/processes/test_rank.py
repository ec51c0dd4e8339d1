"""runtime/processes/rank.py: the word that a training process leaves of its fault."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime.faults import RunFault
from runtime.processes import rank


@pytest.fixture
def error_file(tmp_path, monkeypatch):
    """Where the launcher looks for the word."""
    monkeypatch.setenv(rank.FOLDER, str(tmp_path))
    monkeypatch.setenv(rank.ERROR_FILE, str(tmp_path / "error.json"))
    return tmp_path / "error.json"


def test_a_fault_is_left_whole(error_file, tmp_path):
    assert rank.leave_word(RunFault("SG413", "it is not installed", "install it", exit_code=2))
    word = json.loads(error_file.read_text())
    assert word["fault"] == {"code": "SG413", "message": "it is not installed", "hint": "install it", "exit_code": 2}
    assert list(tmp_path.iterdir()) == [error_file]


def test_of_a_word_that_could_not_be_written_nothing_is_left_to_be_read(error_file, monkeypatch):
    """Half a file would be taken for the word, by PyTorch's launcher, too."""
    write = Path.write_text

    def full(path, text, **options):
        write(path, text[:16], **options)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    assert rank.leave_word(RuntimeError("Connection closed by peer"))
    assert not error_file.exists()
