"""runtime/processes/launch.py: signals, deaths and hangs of two real training processes (gloo), on a tiny random model."""

from __future__ import annotations

import signal
import time

import pytest

from runtime.training.checkpoints import SEAL
from tests.runtime.runs import is_running, start

MANY = {"max_steps": 5000, "save_steps": 1000}
SLOW_SAVE = """
import os, time
def slow():
    from runtime.training import checkpoints
    seal = checkpoints.seal
    def slow_seal(checkpoint, *others):
        time.sleep(8)
        seal(checkpoint, *others)
    checkpoints.seal = slow_seal
if os.environ.get("RANK") == "0":
    import runtime.processes.rank
    before = runtime.processes.rank.end_with_launcher
    runtime.processes.rank.end_with_launcher = lambda: (before(), slow())
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory, compiled):
    """Trains in two processes, for longer than any test lasts."""
    return compiled(tmp_path_factory.mktemp("two"), train=MANY, distributed={"processes_per_node": 2, "ddp_timeout": 5})


@pytest.fixture
def training(two, tmp_path):
    """Two processes that have trained a few steps."""
    run = start(two, tmp_path / "runs", "data", "train").after_step(3)
    yield run
    run.process.kill()
    run.process.wait()


def saved(run):
    return sorted(path.parent.name for path in run.folder.glob(f"train.partial/checkpoint-*/{SEAL}"))


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_to_the_launcher_saves_one_checkpoint_on_all_ranks_together(training, number):
    ended = training.end(number)
    (checkpoint,) = saved(training)
    step = checkpoint.rpartition("-")[2]
    said = {
        signal.SIGTERM: (75, f"preempted; saved at step {step}; the same command goes on"),
        signal.SIGINT: (130, "interrupted; the same command goes on from here"),
    }[number]
    assert (ended.code, ended.errors.strip().splitlines()[-1]) == said
    assert "Traceback" not in ended.errors


@pytest.mark.slow
def test_a_signal_to_one_rank_stops_all_of_them_after_the_same_step(training):
    ended = training.end(signal.SIGUSR1, training.ranks()[1])
    assert ended.code == 75, ended.errors
    assert len(saved(training)) == 1


@pytest.mark.slow
def test_a_signal_to_every_process_at_once_is_one_preemption(training):
    ended = training.end(signal.SIGTERM, training.process.pid, *training.ranks().values())
    assert ended.code == 75, ended.errors
    assert len(saved(training)) == 1


def test_a_killed_rank_ends_all_and_is_named(training):
    ranks = training.ranks()
    ended = training.end(signal.SIGKILL, ranks[1])
    assert ended.code == 1
    assert "error SG452: rank 1 was killed by SIGKILL (signal 9); last heard of at step" in ended.errors
    assert "the machine's memory is the likely reason" in ended.errors
    assert "Traceback" not in ended.errors
    assert ended.seconds < 60
    assert not any(is_running(pid) for pid in ranks.values())


@pytest.mark.slow
def test_a_rank_that_hangs_is_ended_after_ddp_timeout_and_named(training):
    time.sleep(1.5)  # so that it has told where it is
    ranks = training.ranks()
    ended = training.end(signal.SIGSTOP, ranks[0])
    assert ended.code == 1
    assert "error SG453: training hangs: rank 0, last heard of at step" in ended.errors
    assert "did not go on for 5 s; all processes were ended" in ended.errors
    assert ended.seconds < 60
    assert not any(is_running(pid) for pid in ranks.values())


@pytest.mark.slow
def test_a_killed_launcher_leaves_no_process_behind(training):
    ranks = training.ranks()
    assert len(ranks) == 2
    assert training.end(signal.SIGKILL).code == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while any(is_running(pid) for pid in ranks.values()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(is_running(pid) for pid in ranks.values())


@pytest.mark.slow
def test_ranks_wait_for_a_checkpoint_that_takes_longer_than_ddp_timeout(tmp_path, compiled):
    train = {"max_steps": 2, "save_steps": 1}
    build = compiled(tmp_path, train=train, distributed={"processes_per_node": 2, "ddp_timeout": 5})
    run = start(build, tmp_path / "runs", "data", "train", before=SLOW_SAVE)
    assert run.end(signal.SIGCONT).code == 0
    assert (run.folder / "train" / "checkpoint-2" / SEAL).exists()
