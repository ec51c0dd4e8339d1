"""runtime/run/run_lock.py: a run folder belongs to one process at a time, on disks of every kind."""

from __future__ import annotations

import errno
import fcntl
import subprocess
import sys

import pytest

from runtime.run.run_lock import locked
from runtime.stages import open_folder

HOLDS_THE_LOCK = """
import sys
from pathlib import Path
from runtime.run.run_lock import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_run_folder_belongs_to_one_process_until_that_ends(tmp_path, fault_of):
    open_folder(tmp_path)
    with subprocess.Popen([sys.executable, "-c", HOLDS_THE_LOCK, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"locked\n"
        assert fault_of(locked(tmp_path).__enter__) == (
            f"error SG406: another run is active in {tmp_path}\n  hint: wait for it, or choose another folder with --runs-dir"
        )
        other.kill()
    with locked(tmp_path):
        pass


def test_the_file_is_open_for_writing_as_nfs_wants_it(tmp_path, monkeypatch):
    modes = []
    monkeypatch.setattr(fcntl, "flock", lambda stream, _how: modes.append(stream.mode))
    open_folder(tmp_path)
    before = (tmp_path / ".specgen").read_text()
    with locked(tmp_path):
        pass
    assert modes == ["a"]
    assert (tmp_path / ".specgen").read_text() == before


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EBADF], ids=errno.errorcode.get)
def test_a_disk_without_locks_is_no_other_run_and_a_line_says_so(tmp_path, monkeypatch, capsys, number):
    def flock(_stream, _how):
        raise OSError(number, "No locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    open_folder(tmp_path)
    with locked(tmp_path):
        said = capsys.readouterr().out
    assert said == f"note     {tmp_path} cannot be locked (No locks here): nothing keeps another run out of it\n"
