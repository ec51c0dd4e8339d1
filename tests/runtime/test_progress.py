"""runtime/progress.py: progress.json says where a run stands and how it ended, and specgen's side reads it so."""

from __future__ import annotations

import fcntl
import json

import pytest

from runtime import progress
from runtime.faults import Interrupted, Preempted, RunFault
from runtime.run import pipeline
from runtime.run.run_lock import locked
from specgen.runfolder import is_active, read_run


@pytest.fixture
def folder(tmp_path):
    (tmp_path / ".specgen").touch()
    return tmp_path


def test_the_pace_is_that_of_the_last_steps():
    pace = progress.Pace()
    assert pace.eta_s(100) is None
    for step in range(1, 11):
        pace.passed(step, step * 100.0)
    for step in range(11, 11 + progress.WINDOW):
        pace.passed(step, 1000.0 + (step - 10) * 2.0)
    assert pace.eta_s(100) == pytest.approx((100 - 60) * 2.0)


def test_progress_is_written_at_most_once_a_second_and_the_end_always(folder, monkeypatch):
    written = []
    monkeypatch.setattr(progress, "write_json", lambda _file, content: written.append(content))
    stage = progress.StageProgress(folder, "train")
    for step in range(100):
        stage.tell(step=step)
    assert len(written) == 1
    stage.tell(at_once=True, step=100)
    assert (len(written), written[-1]["step"], written[-1]["stage"]) == (2, 100, "train")
    stage.written -= progress.INTERVAL_S
    stage.tell(step=101)
    assert written[-1]["step"] == 101


@pytest.mark.parametrize(
    ("raised", "state", "message"),
    [
        (RunFault("SG433", "the loss is nan at step 3", "lower it"), "failed", "the loss is nan at step 3"),
        (Interrupted(), "interrupted", None),
        (KeyboardInterrupt(), "interrupted", None),
        (Preempted(), "preempted", None),
        (ZeroDivisionError("division by zero"), "failed", "ZeroDivisionError: division by zero"),
    ],
)
def test_how_a_run_ends_is_written_down(folder, raised, state, message):
    with pytest.raises(type(raised)), progress.recorded(folder):
        progress.StageProgress(folder, "train").tell(at_once=True, step=3)
        raise raised
    told = progress.read(folder)
    assert (told["state"], told["stage"], told["step"], told.get("fault", {}).get("message")) == (state, "train", 3, message)


def test_what_the_process_that_failed_has_told_stays(folder):
    """The first process says what is wrong; that which started it knows only that it failed."""
    with pytest.raises(RunFault), progress.recorded(folder):
        with pytest.raises(RunFault), progress.recorded(folder, begins=False):
            raise RunFault("SG433", "the loss is nan")
        raise RunFault("SG434", "a training process failed")
    assert progress.read(folder)["fault"]["code"] == "SG433"


def test_a_full_disk_fails_no_run_for_its_progress(folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(progress, "write_json", full)
    with progress.recorded(folder):
        progress.StageProgress(folder, "train").tell(at_once=True, step=1)


def test_a_finished_run_is_done_and_one_stage_alone_is_stopped(finished, compiled, carried_out, tmp_path):
    assert read_run(finished[1]).state == "done"
    run = read_run(carried_out(compiled(tmp_path), tmp_path / "runs", "data"))
    assert (run.state, run.progress["stage"], list(run.stages)) == ("stopped", "data", ["data"])


def test_a_failed_smoke_test_is_a_failed_run(finished_copy, tmp_path, configured):
    _, run = finished_copy
    config = configured(tmp_path, smoke=[{"user": "Count 1.", "expect": {"contains": ["no such answer"], "stops": False}}])
    assert pipeline.run(config, build=tmp_path / "build", runs_dir=run.parent, only=(), talk="") == 1
    read = read_run(run)
    assert (read.state, read.progress["fault"]["message"]) == ("failed", "the smoke test failed")


def test_a_run_whose_lock_nobody_holds_was_killed(folder):
    with locked(folder), progress.recorded(folder):
        progress.StageProgress(folder, "merge")
        assert read_run(folder).state == "running"
        kept = progress.read(folder)
    (folder / "progress.json").write_text(json.dumps(kept))
    assert read_run(folder).state == "killed"


def test_looking_at_a_run_does_not_keep_it_from_starting(folder, monkeypatch):
    looks = (folder / ".specgen").open()
    fcntl.flock(looks, fcntl.LOCK_SH)
    monkeypatch.setattr("runtime.run.run_lock.time.sleep", lambda _s: looks.close())
    with locked(folder):
        assert is_active(folder)
    assert not is_active(folder)


def test_specgen_reads_what_training_leaves(finished):
    run = read_run(finished[1])
    assert run.config["name"] == "tiny"
    assert run.metric["step"] == run.summary("train")["steps"] == 6
    assert run.checkpoints[0] == ("checkpoint-6", True)
    assert [preview["step"] for preview in run.previews] == list(range(7))
