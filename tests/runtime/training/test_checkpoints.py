"""runtime/training/checkpoints.py: a checkpoint is whole, or it does not count. The kinds of damage are those of case o23."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time

import pytest

from runtime.training import checkpoints


@pytest.fixture
def run(tmp_path):
    """A run folder with sealed checkpoints 2, 4 and 6."""
    for step in (2, 4, 6):
        seal_new(tmp_path, step)
    return tmp_path


def seal_new(run, step):
    folder = run / f"checkpoint-{step}"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(bytes(range(256)) * step)
    (folder / "trainer_state.json").write_text(f'{{"global_step": {step}}}')
    checkpoints.seal(folder)


@pytest.fixture
def found(run):
    """The step that training would go on from, and what is said on the way."""

    def newest():
        said = []
        whole = checkpoints.newest_whole(run, said.append)
        return (whole and whole.name), said

    return newest


@pytest.fixture
def damage(run, case_file):
    """Breaks the newest checkpoint as case o23 does."""
    return lambda mode: subprocess.run([sys.executable, case_file("o23_break.py"), run, mode], check=True, capture_output=True)


def test_the_newest_of_several_whole_ones_is_taken(found):
    assert found() == ("checkpoint-6", [])


def test_steps_are_numbers_and_not_text(run, found):
    seal_new(run, 10)
    assert found() == ("checkpoint-10", [])


@pytest.mark.parametrize(
    ("mode", "goes_on_from", "said"),
    [
        ("nostate", "checkpoint-4", "checkpoint-6 is passed over: trainer_state.json is missing"),
        ("truncate", "checkpoint-4", "checkpoint-6 is passed over: adapter_model.safetensors is not as it was written"),
        ("empty", "checkpoint-6", "checkpoint-8 is passed over: it was never finished"),
    ],
)
def test_a_damaged_one_is_passed_over_by_name(damage, found, mode, goes_on_from, said):
    damage(mode)
    assert found() == (goes_on_from, [said])


def test_a_changed_byte_is_found_where_the_size_is_the_same(run, found):
    file = run / "checkpoint-6" / "adapter_model.safetensors"
    content = bytearray(file.read_bytes())
    content[700] ^= 1
    file.write_bytes(content)
    assert found() == ("checkpoint-4", ["checkpoint-6 is passed over: adapter_model.safetensors is not as it was written"])


@pytest.mark.parametrize("seal", ["", "{"])
def test_a_broken_seal_is_damage_and_no_traceback(run, found, seal):
    (run / "checkpoint-6" / checkpoints.SEAL).write_text(seal)
    assert found()[0] == "checkpoint-4"


def test_files_in_folders_are_sealed_too(run, found):
    shutil.rmtree(run / "checkpoint-6")
    state = run / "checkpoint-6" / "global_step6" / "state.pt"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"state")
    checkpoints.seal(run / "checkpoint-6")
    state.unlink()
    assert found() == ("checkpoint-4", ["checkpoint-6 is passed over: global_step6/state.pt is missing"])


def test_training_never_starts_over_in_silence(run, damage, fault_of):
    for step in (6, 4, 2):
        damage("truncate")
        (run / f"checkpoint-{step}").rename(run / f"damaged-{step}")
    for step in (6, 4, 2):
        (run / f"damaged-{step}").rename(run / f"checkpoint-{step}")
    assert fault_of(checkpoints.newest_whole, run, lambda _text: None) == (
        "error SG431: every checkpoint is damaged (checkpoint-6, checkpoint-4, checkpoint-2)\n"
        f"  hint: bring one back, or remove {run} to train from the start"
    )


def test_training_starts_where_no_checkpoint_was_ever_finished(tmp_path):
    (tmp_path / "checkpoint-2").mkdir()
    said = []
    assert checkpoints.newest_whole(tmp_path, said.append) is None
    assert said == ["checkpoint-2 is passed over: it was never finished"]


def test_an_empty_folder_has_no_checkpoint(tmp_path):
    assert checkpoints.newest_whole(tmp_path, pytest.fail) is None


def test_pruning_keeps_the_newest(run):
    checkpoints.prune(run, 2)
    assert [checkpoint.name for checkpoint in checkpoints.checkpoints(run)] == ["checkpoint-6", "checkpoint-4"]


def test_pruning_removes_nothing_for_one_that_is_not_sealed_yet(run):
    (run / "checkpoint-8").mkdir()
    checkpoints.prune(run, 3)
    assert [checkpoint.name for checkpoint in checkpoints.checkpoints(run)] == [f"checkpoint-{step}" for step in (8, 6, 4, 2)]


@pytest.mark.parametrize(
    ("keep", "best", "left"), [(2, 2, [6, 2]), (1, 4, [6, 4]), (1, 6, [6]), (3, 2, [6, 4, 2]), (2, None, [6, 4]), (2, 3, [6, 4])]
)
def test_pruning_keeps_the_best_and_the_newest(run, keep, best, left):
    checkpoints.prune(run, keep, best)
    assert [checkpoint.name for checkpoint in checkpoints.checkpoints(run)] == [f"checkpoint-{step}" for step in left]


def test_what_was_half_written_or_half_removed_goes_at_the_next_start(run):
    (run / checkpoints.ASIDE / "checkpoint-8").mkdir(parents=True)
    (run / f"checkpoint-2{checkpoints.GOING}").mkdir()
    said = []
    checkpoints.clean(run, said.append)
    assert said == ["checkpoint-8 was being written when the last run ended: what there is of it is removed"]
    assert sorted(path.name for path in run.iterdir()) == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]
    checkpoints.clean(run, pytest.fail)


def test_a_checkpoint_gets_its_name_when_it_is_sealed_and_takes_the_place_of_a_damaged_one(run, found):
    written = run / checkpoints.ASIDE / "checkpoint-6"
    written.mkdir(parents=True)
    (written / "adapter_model.safetensors").write_bytes(b"again")
    (run / "checkpoint-6" / "trainer_state.json").unlink()
    assert checkpoints.put_in_place(run, "checkpoint-6") == run / "checkpoint-6"
    assert found() == ("checkpoint-6", [])
    assert sorted(path.name for path in (run / "checkpoint-6").iterdir()) == ["adapter_model.safetensors", checkpoints.SEAL]
    assert not (run / checkpoints.ASIDE).exists()


def test_a_slow_disk_is_told_of_once(run, monkeypatch, capsys):
    monkeypatch.setattr(checkpoints, "SLOW_S", 0.05)
    monkeypatch.setattr(checkpoints.os, "fsync", lambda _file: time.sleep(0.15))
    (run / checkpoints.ASIDE).mkdir()
    (run / "checkpoint-6").rename(run / checkpoints.ASIDE / "checkpoint-8")
    checkpoints.put_in_place(run, "checkpoint-8")
    assert capsys.readouterr().out == "train    checkpoint-8 is hashed and flushed to the disk (1.6 kB)\n"
