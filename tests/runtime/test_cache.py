"""runtime/cache.py: folders that are made once, whoever of several processes makes them."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path

import pytest

from runtime.cache import one_at_a_time, whole


def test_a_folder_that_another_process_made_meanwhile_stays(tmp_path):
    target = tmp_path / "cache" / "model"

    def write(folder):
        (folder / "config.json").write_text("late")
        target.mkdir()
        (target / "config.json").write_text("sooner")

    whole(target, write)
    assert (target / "config.json").read_text() == "sooner"
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_that_cannot_get_its_name_is_an_error(tmp_path, monkeypatch):
    def rename(_path, _target):
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="Permission denied"):
        whole(tmp_path / "model", lambda _folder: None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("may_write", [True, False])
def test_the_file_that_is_locked_is_open_for_writing_where_that_is_allowed(tmp_path, monkeypatch, may_write):
    """NFS gives a lock for one process alone to no other."""
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    before, modes = Path.open, []

    def opened(path, mode):
        if mode == "r+b" and not may_write:
            raise PermissionError(errno.EACCES, "Permission denied")
        return before(path, mode)

    monkeypatch.setattr(Path, "open", opened)
    monkeypatch.setattr(fcntl, "flock", lambda stream, how: modes.append((stream.mode, how)))
    with one_at_a_time(tmp_path / "model.gguf"):
        pass
    assert modes == [("rb+" if may_write else "rb", fcntl.LOCK_EX)]
    assert (tmp_path / "model.gguf").read_bytes() == b"GGUF"
