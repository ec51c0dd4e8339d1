"""Compiled folders on disk: ours are renewed, others are left alone."""

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
