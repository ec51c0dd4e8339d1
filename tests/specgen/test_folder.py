"""Compiled folders on disk: ours are renewed, others are left alone."""

from pathlib import Path

import pytest


@pytest.fixture
def spec(tmp_path, small):
    (tmp_path / "spec.yaml").write_text(small)
    return "spec.yaml"


def test_a_folder_of_others_is_refused_and_untouched(cli, spec, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    ran = cli("compile", spec, "--output", "mine")
    assert ran.code == 2
    assert "error SG301: mine holds files that specgen did not write; nothing was touched" in ran.err
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_a_file_in_the_way_is_refused(cli, spec, tmp_path):
    (tmp_path / "mine").write_text("keep")
    ran = cli("compile", spec, "--output", "mine")
    assert (ran.code, "error SG301: mine is a file" in ran.err) == (2, True)


def test_a_place_that_cannot_be_written_is_named(cli, spec):
    ran = cli("compile", spec, "--output", "/proc/specgen")
    assert ran.code == 2
    assert "error SG302: /proc/specgen cannot be written: " in ran.err
    assert "hint: choose another with --output" in ran.err


@pytest.mark.parametrize("words", [("compile", "spec.yaml", "--output"), ("init", "mine", "--output")])
def test_a_name_that_is_too_long_is_a_place_that_cannot_be_written(cli, spec, words):
    ran = cli(*words, "a" * 300)
    assert ran.code == 2
    assert f"error SG302: {'a' * 300} cannot be written: File name too long\n" in ran.err


def test_a_folder_that_may_not_be_looked_into_is_one_that_cannot_be_written(monkeypatch, cli, spec, tmp_path):
    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "out").mkdir()
    monkeypatch.setattr(Path, "iterdir", refused)
    ran = cli("compile", spec, "--output", "out")
    assert ran.code == 2
    assert "error SG302: out cannot be written: Permission denied\n" in ran.err


@pytest.mark.parametrize("command", ["chat", "serve", "validate", "status"])
def test_a_name_that_is_too_long_is_one_that_is_not_there(cli, command):
    ran = cli(command, "a" * 300)
    assert ran.code == 2
    assert "error SG001: " in ran.err or "error SG671: " in ran.err


def test_a_file_that_cannot_be_read_is_stale(cli, spec, tmp_path):
    assert cli("compile", spec, "--output", "out").code == 0
    (tmp_path / "out/plan.md").unlink()
    (tmp_path / "out/plan.md").mkdir()
    assert cli("compile", spec, "--output", "out", "--check").code == 1


def test_check_tells_a_stale_folder_and_shows_the_difference(cli, spec, tmp_path):
    assert cli("compile", spec).code == 0
    assert cli("compile", spec, "--check").code == 0
    before = (tmp_path / "build/small/config.yaml").read_text()
    ran = cli("compile", spec, "--check", "--set", "train.epochs=1")
    assert ran.code == 1
    assert "-  epochs: 3.0" in ran.out
    assert "+  epochs: 1.0" in ran.out
    assert "build/small is stale" in ran.err
    assert (tmp_path / "build/small/config.yaml").read_text() == before


def test_files_of_an_earlier_compilation_go(cli, spec, tmp_path):
    zero = ("--set", "distributed={zero_stage: 2, processes_per_node: 2}")
    cli("compile", spec, *zero)
    assert (tmp_path / "build/small/deepspeed.json").exists()
    cli("compile", spec)
    assert sorted(file.name for file in (tmp_path / "build/small").iterdir()) == ["config.yaml", "launch.sh", "plan.md"]
