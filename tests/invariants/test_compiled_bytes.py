"""The same spec compiles to the same bytes, the committed ones, everywhere."""

from __future__ import annotations

import pytest

PROFILES = [None, "zero2", "zero3"]


def compiled(process, root, folder, profile, cwd, **environment):
    arguments = ["--profile", profile] if profile else []
    done = process("compile", root / "specs/assistant.yaml", "--output", folder, *arguments, cwd=cwd, **environment)
    assert done.code == 0, done.err
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("profile", PROFILES)
def test_the_bytes_are_the_committed_ones_in_any_folder_and_locale(process, root, tmp_path, profile):
    golden = root / "tests/golden" / "-".join(filter(None, ["assistant", profile]))
    expected = {file.name: file.read_bytes() for file in golden.iterdir()}
    assert compiled(process, root, tmp_path / "here", profile, root) == expected
    odd = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    assert compiled(process, root, tmp_path / "there", profile, tmp_path, **odd) == expected
    assert compiled(process, root, tmp_path / "there", profile, tmp_path) == expected, "again into the same folder"
