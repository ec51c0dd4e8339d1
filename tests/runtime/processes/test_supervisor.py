"""runtime/processes/supervisor.py: of several processes that failed, the one that is to blame is told."""

from __future__ import annotations

import json

import pytest

from runtime.faults import RunFault
from runtime.processes import supervisor as supervising
from runtime.processes.rank import Pulse
from runtime.processes.supervisor import Failure, Supervisor, verdict

AGAIN = "the same command goes on from the last checkpoint"
NCCL = "NCCL error in: init.cpp:1, unhandled system error\nncclSystemError: System call failed\nError while creating shared memory segment"


def word(message, *, lost=True):
    return {"message": {"message": message, "extraInfo": {}}, "lost": lost}


def failed(message, *, time_s=1.0):
    return Failure(code=1, time_s=time_s, word=word(message))


@pytest.fixture
def supervisor(tmp_path, monkeypatch):
    """One that hears nothing of other nodes, and does not wait for it; its thread is not started."""
    monkeypatch.setattr(supervising, "NEWS_S", 0.0)
    return Supervisor(tmp_path, timeout_s=1800.0, first_rank=0, lost=lambda: None)


def test_where_all_processes_lost_each_other_the_first_ones_error_is_told(supervisor, tmp_path):
    (tmp_path / "x" / "attempt_0" / "1").mkdir(parents=True)
    (tmp_path / "x" / "attempt_0" / "1" / "stderr.log").write_text("NCCL WARN Call to posix_fallocate failed\n")
    told = verdict({0: failed("Gloo connectFullMesh failed", time_s=2.0), 1: failed(NCCL)}, supervisor)
    usual = "where all of them lived, /dev/shm may be too small, or NCCL or Gloo take another network interface than they should"
    lines = ["rank 1 lost the other processes", *NCCL.splitlines(), "NCCL WARN Call to posix_fallocate failed"]
    assert str(told) == "error SG434: " + "\n  ".join(lines) + f"\n  hint: {usual} (NCCL_SOCKET_IFNAME, GLOO_SOCKET_IFNAME); {AGAIN}"


def test_a_process_that_others_waited_for_in_vain_hangs(supervisor):
    supervisor.last = {0: Pulse(pid=1, step=3, doing="training"), 1: Pulse(pid=2, step=2, doing="saving")}
    told = verdict({0: failed("[tcp/unbound_buffer.cc:81] Timed out waiting 1800000ms for recv operation to complete")}, supervisor)
    who = "rank 1, last heard of at step 2 (saving),"
    hint = f"where so long a step is right, raise distributed.ddp_timeout; {AGAIN}"
    assert str(told) == f"error SG453: training hangs: {who} did not go on for 1800 s; all processes were ended\n  hint: {hint}"


def test_a_process_that_hangs_before_its_first_heartbeat_is_spoken_of(supervisor):
    told = verdict({0: failed("Timed out waiting 1800000ms for recv operation to complete")}, supervisor)
    who = "a process that had not begun to train"
    assert str(told).splitlines()[0] == f"error SG453: training hangs: {who} did not go on for 1800 s; all processes were ended"


def test_the_fault_of_another_node_is_told_though_the_watch_has_heard_it_already(tmp_path):
    """It comes once: who asks again sees only that the connection is closed."""
    news = iter([RunFault("SG452", "rank 2 was killed by SIGKILL (signal 9)")])
    gone = RunFault("SG463", "node b has failed, or is gone")
    with Supervisor(tmp_path, timeout_s=1800.0, first_rank=0, lost=lambda: next(news, gone)) as supervisor:
        told = verdict({0: failed("Connection closed by peer")}, supervisor)
    assert str(told) == "error SG452: rank 2 was killed by SIGKILL (signal 9)"


def test_what_processes_wrote_down_is_read_by_their_ranks(tmp_path):
    supervisor = Supervisor(tmp_path, timeout_s=1.0, first_rank=4, lost=lambda: None)
    (tmp_path / "x" / "attempt_0" / "1").mkdir(parents=True)
    (tmp_path / "x" / "attempt_0" / "1" / "error.json").write_text(json.dumps(word("Broken pipe")))
    found = supervisor.failures({4: Failure(code=-9, time_s=1.0)})
    assert {rank: (failure.code, failure.word) for rank, failure in found.items()} == {4: (-9, {}), 5: (1, word("Broken pipe"))}
