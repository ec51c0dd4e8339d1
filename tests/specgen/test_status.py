"""specgen status: where a run stands, from the files of its folder alone. tests/runtime/training/test_watch.py holds that the runtime
writes such files."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from specgen.runfolder import read_run

STARTED = 1_790_000_000.0


@pytest.fixture
def made(tmp_path):
    """Writes a run folder below runs/, as a run leaves it in the middle of training; returns it."""

    def make(name="bot", checkpoints=(20, 30), stages=("data",), **progress):
        run = tmp_path / "runs" / name
        train = run / "train.partial"
        train.mkdir(parents=True)
        (run / ".specgen").touch()
        (run / "config.json").write_text(json.dumps({"name": name}))
        known = {"state": "running", "started": STARTED, "stage": "train", "step": 37, "total": 300, "loss": 1.25, "tokens_per_s": 1580}
        who = {"memory_bytes": 2_100_000_000, "eta_s": 161.0, "pid": 4711, "host": socket.gethostname(), "updated": STARTED + 120}
        (run / "progress.json").write_text(json.dumps(known | who | progress))
        metric = {"step": 37, "loss": 1.25, "learning_rate": 1.8e-4, "grad_norm": 0.75}
        (train / "metrics.jsonl").write_text(json.dumps(metric) + '\n{"step": 38, "lo')
        points = [{"step": 10, "loss": 1.5, "perplexity": 4.4817}, {"step": 20, "loss": 1.6, "perplexity": 4.953}]
        (train / "validation.jsonl").write_text("".join(json.dumps(point) + "\n" for point in points))
        answers = [{"step": step, "prompt": "Who are\nyou?", "answer": f"I am Aria {step}."} for step in (0, 20)]
        (train / "previews.jsonl").write_text("".join(json.dumps(answer) + "\n" for answer in answers))
        for step in checkpoints:
            checkpoint = train / f"checkpoint-{step}"
            checkpoint.mkdir()
            (checkpoint / "weights").write_text("1234")
            (checkpoint / "sealed.json").write_text(json.dumps({"weights": [4, "hash"]}))
        for stage in stages:
            (run / stage).mkdir()
            (run / stage / "stage.json").write_text(json.dumps({"seconds": 4.2, "summary": {}}))
        return run

    return make


@contextmanager
def held(run):
    with (run / ".specgen").open() as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@pytest.mark.parametrize(
    "half",
    [b'{"step": 30, "prompt": "Who?", "answer": "{}', '{"step": 30, "prompt": "Who?", "answer": "中'.encode()[:-1], b"[1]", b'"{}"'],
)
def test_a_line_that_is_not_whole_is_left_out(cli, made, half):
    run = made()
    with (run / "train.partial/previews.jsonl").open("ab") as stream:
        stream.write(half)
    assert "preview    step 20  Who are you? → I am Aria 20." in cli("status", "bot").out


def test_a_line_may_hold_what_parts_lines_elsewhere(cli, made):
    run = made()
    (run / "train.partial/previews.jsonl").write_text(
        json.dumps({"step": 30, "prompt": "a\u2028b", "answer": "c\x85d"}, ensure_ascii=False)
    )
    assert "preview    step 30  a b → c d" in cli("status", "bot").out


@pytest.mark.parametrize("named", [(), ("bot",), ("runs/bot",)])
def test_a_profile_belongs_to_a_spec(cli, made, named):
    made()
    ran = cli("status", *named, "--profile", "two")
    assert ran.code == 2
    assert ran.err.endswith("Error: --profile belongs to a spec: name it, or the run itself without --profile\n")


@pytest.mark.parametrize(("pid", "state"), [(os.getpid(), "running"), (2**22 + 1, "killed")], ids=["lives", "gone"])
def test_on_a_disk_without_locks_a_run_lives_as_long_as_its_process(made, monkeypatch, pid, state):
    def flock(_stream, _how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    assert read_run(made(pid=pid)).state == state


def test_a_line_that_was_joined_to_one_that_was_cut_off_is_left_out(made):
    run = made()
    with (run / "train.partial" / "previews.jsonl").open("a") as stream:
        stream.write('{"step": 30, "pro{"step": 30, "prompt": "Hi", "answer": "I am"}\n{"step": 40, "prompt": "Hi", "answer": "a\u2028"}\n')
    assert [preview["step"] for preview in read_run(run).previews] == [0, 20, 40]


def test_a_run_that_trains_is_shown_with_its_figures(cli, made):
    run = made(updated=time.time())
    with held(run):
        ran = cli("status", "bot")
    assert ran.code == 0
    first, where, *rest = ran.out.splitlines()
    assert first == "bot  running · train step 37 of 300 (12 %) · ETA 2:41"
    assert where.startswith("  run        runs/bot · process 4711 on ")
    assert where.endswith(", last heard 0:00 ago")
    assert rest == [
        "  stages     data ✓ 0:04  train …  convert  merge  smoke  report",
        "  train      loss 1.2500  lr 0.00018  grad norm 0.75  1,580 tok/s  2.1 GB",
        "  validation step 20  loss 1.6000  perplexity 4.953  (best: 1.5000 at step 10)",
        "  preview    step 20  Who are you? → I am Aria 20.",
        "  checkpoint checkpoint-30, checkpoint-20",
    ]


def test_a_killed_run_says_where_the_same_command_goes_on(cli, made):
    run = made(checkpoints=(20, 30, 36))
    (run / "train.partial/checkpoint-36/weights").write_text("12")
    lines = cli("status", "bot").out.splitlines()
    assert lines[0] == "bot  killed in train at step 37 of 300"
    assert lines[1] == "             checkpoint-30 is whole: the same command goes on from there"
    assert lines[-1] == "  checkpoint checkpoint-36 (not whole), checkpoint-30, checkpoint-20"


def test_a_run_that_is_killed_before_a_checkpoint_says_so(cli, made):
    made(checkpoints=())
    assert cli("status").out.splitlines()[1].strip() == "no checkpoint is whole yet: the same command trains from the start"


def test_a_killed_stage_other_than_training_says_with_what_it_goes_on(cli, made):
    made(stage="merge", step=None, total=None)
    assert cli("status").out.splitlines()[:2] == ["bot  killed in merge", "             the same command goes on with merge"]


def test_a_failed_run_says_its_fault(cli, made):
    fault = {"code": "SG433", "message": "the loss is nan at step 37", "hint": "lower train.learning_rate"}
    made(state="failed", fault=fault)
    assert cli("status").out.splitlines()[:4] == [
        "bot  failed in train at step 37 of 300",
        "             SG433: the loss is nan at step 37",
        "             hint: lower train.learning_rate",
        "             checkpoint-30 is whole: the same command goes on from there",
    ]


@pytest.mark.parametrize("state", ["interrupted", "preempted"])
def test_a_run_that_was_stopped_says_so(cli, made, state):
    made(state=state)
    assert cli("status").out.splitlines()[0] == f"bot  {state} in train at step 37 of 300"


def test_a_finished_run_says_how_long_it_took_and_what_the_smoke_test_said(cli, made):
    run = made(state="done", stage="report", stages=("data", "convert", "merge", "smoke", "report"), step=None, updated=STARTED + 75)
    (run / "train.partial").rename(run / "train")
    figures = {"final_loss": 0.5, "tokens_per_s": 1200, "peak_memory_bytes": 10**9}
    (run / "train/stage.json").write_text(json.dumps({"seconds": 61, "summary": figures}))
    transcript = [{"problems": []}, {"problems": ["does not contain 'Aria'"]}]
    (run / "smoke/stage.json").write_text(json.dumps({"seconds": 2, "summary": {"passed": False, "transcript": transcript}}))
    out = cli("status").out
    assert out.startswith("bot  done in 1:15\n")
    assert "train ✓ 1:01" in out
    assert "  train      loss 0.5000  lr 0.00018  grad norm 0.75  1,200 tok/s  1.0 GB\n" in out
    assert "  smoke      1 of 2 passed\n" in out


def test_a_run_on_another_machine_counts_as_running_while_it_is_heard_of(cli, made):
    made("near", host="elsewhere", updated=time.time() - 5)
    made("far", host="elsewhere", updated=time.time() - 300)
    assert cli("status", "near").out.startswith("near  running · train step 37 of 300 (12 %)")
    assert "far  not heard of for 5:00 at step 37 of 300; whether it lives can only be seen on elsewhere" in cli("status", "far").out


def test_a_run_is_found_by_path_name_spec_profile_and_compiled_folder(cli, made, small, tmp_path):
    made("small")
    made("small-two")
    (tmp_path / "spec.yaml").write_text(small + "profiles: {two: {train: {seed: 7}}}\n")
    (tmp_path / "build").mkdir()
    (tmp_path / "build/config.yaml").write_text("# Compiled by specgen\nname: small\n")
    for named in ("runs/small", "small", "spec.yaml", "build"):
        assert cli("status", named).out.startswith("small  killed"), named
    assert cli("status", "spec.yaml", "--profile", "two").out.startswith("small-two  killed")


def test_without_a_name_it_is_the_run_that_was_written_to_last(cli, made):
    os.utime(made("old") / "progress.json", (1, 1))
    os.utime(made("new") / "progress.json", (2**40, 2**40))
    os.utime(made("other") / "progress.json", (1, 1))
    assert cli("status").out.startswith("new  ")


def test_a_run_that_is_not_there_is_a_fault_that_names_those_that_are(cli, made):
    ran = cli("status", "bot")
    assert ran.code == 2
    assert "error SG671: bot has no run below runs" in ran.err
    made("one")
    made("two")
    assert "hint: below runs are one, two" in cli("status", "bot").err
    assert "error SG671: there is no run below elsewhere" in cli("status", "--runs-dir", "elsewhere").err


def test_the_json_form_has_all_figures(cli, made):
    made()
    told = json.loads(cli("status", "--format", "json").out)
    assert told["folder"] == "runs/bot"
    assert (told["state"], told["stage"], told["step"], told["total"], told["pid"]) == ("killed", "train", 37, 300, 4711)
    assert told["best_validation"] == {"step": 10, "loss": 1.5, "perplexity": 4.4817}
    assert told["checkpoints"] == [{"name": "checkpoint-30", "whole": True}, {"name": "checkpoint-20", "whole": True}]
    assert told["previews"] == [{"step": 20, "prompt": "Who are\nyou?", "answer": "I am Aria 20."}]


def test_half_written_and_missing_files_count_as_nothing(cli, made):
    run = made()
    for file in ("progress.json", "config.json", "data/stage.json"):
        (run / file).write_text('{"state": "run')
    assert cli("status").out.startswith("bot  not finished; how it ended was not written down\n")


def test_watching_ends_when_the_run_has_ended(cli, made):
    made(state="failed")
    assert cli("status", "--watch").out.count("bot  failed") == 1


def test_watching_shows_what_changes_until_the_end(made, tmp_path):
    run = made(updated=time.time(), eta_s=None)
    progress = json.loads((run / "progress.json").read_text())
    command = [sys.executable, "-m", "specgen", "status", "--watch"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        with held(run):
            assert process.stdout.readline().startswith("bot  running · train step 37 of 300")
            (run / "progress.json").write_text(json.dumps(progress | {"state": "interrupted", "step": 42}))
        assert "bot  interrupted in train at step 42 of 300\n" in process.stdout.read()
    assert process.returncode == 0
