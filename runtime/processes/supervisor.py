"""Watches over training processes, and tells which of them is to blame when a run ends with a fault.

When one process dies or hangs, the others fail, too, a moment later: they wait for it. Told is the first cause: the fault that a
process names itself, a signal that killed it, its exit code; and where all of them only waited, who did not come.
"""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from runtime.faults import INTERRUPTED, PREEMPTED, Interrupted, Preempted, RunFault
from runtime.processes.rank import BEAT_S, WAITED, Pulse, pulses

GRACE_S = 10.0  # from one process's fault to the end of all: they end by themselves sooner, unless they hang
NEWS_S = 5.0  # for how long word of another node is waited for, where ranks only say that others are gone
AGAIN = "the same command goes on from the last checkpoint"
LAST_LINES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How a training process ended: exit code, or the negative number of a signal, and when, in seconds since 1970. `word` is
    what it wrote down before."""

    code: int
    time_s: float
    word: dict[str, Any] = field(default_factory=dict)


class Supervisor:
    """Within this, a process that shows no life for `timeout_s` ends all of this machine, and so does one whose fault the others do
    not come to know of: a process that hangs ends only by SIGKILL.

    `first_rank` is the lowest rank here, and `lost` tells the fault of another node.
    """

    def __init__(self, folder: Path, *, timeout_s: float, first_rank: int, lost: Callable[[], RunFault | None]) -> None:
        self.folder, self.timeout_s, self.first_rank, self.lost = folder, timeout_s, first_rank, lost
        self.elsewhere: RunFault | None = None
        self.hung: dict[int, Pulse] = {}
        self.last: dict[int, Pulse] = {}
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Supervisor:
        self.thread.start()
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None) -> None:
        self.ended.set()
        self.thread.join()

    def failures(self, ended: dict[int, Failure]) -> dict[int, Failure]:
        """What the launcher knows of the processes that failed, and what they wrote down."""
        words = {self.first_rank + int(file.parent.name): (json.loads(file.read_text()), file.stat().st_mtime) for file in self._words()}
        told = {rank: Failure(code=1, time_s=time_s, word=word) for rank, (word, time_s) in words.items()}
        for rank, failure in ended.items():
            word, time_s = words.get(rank, ({}, failure.time_s))
            told[rank] = Failure(code=failure.code, time_s=time_s, word=word)
        return told

    def heard(self) -> RunFault | None:
        """The fault of another node: word of it may come a little after its ranks no longer answer. Only `_watch` asks for it: it
        comes once."""
        until = time.monotonic() + NEWS_S
        while self.elsewhere is None and time.monotonic() < until:
            time.sleep(0.1)
        return self.elsewhere

    def last_lines(self, rank: int) -> list[str]:
        """The end of what a process wrote on standard error."""
        files = list(self.folder.glob(f"*/attempt_*/{rank - self.first_rank}/stderr.log"))
        return [line for file in files for line in file.read_text(errors="replace").splitlines() if line.strip()][-LAST_LINES:]

    def _words(self) -> list[Path]:
        return list(self.folder.glob("*/attempt_*/*/error.json"))

    def _watch(self) -> None:
        until = math.inf
        while not self.ended.wait(BEAT_S / 2):
            found = pulses(self.folder)
            self.last |= {rank: pulse for rank, (pulse, _) in found.items()}
            stopped = {rank: pulse for rank, (pulse, age_s) in found.items() if age_s > self.timeout_s and is_alive(pulse.pid)}
            self.hung = self.hung or stopped
            self.elsewhere = self.elsewhere or self.lost()
            if self.elsewhere or self._words():
                until = min(until, time.monotonic() + GRACE_S)
            if self.hung or time.monotonic() > until:
                for pulse in self.last.values():
                    end_at_once(pulse.pid)


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state != "Z"


def end_at_once(pid: int) -> None:
    """SIGKILL for a training process and what it has started: each leads a group of its own."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def verdict(failures: dict[int, Failure], supervisor: Supervisor) -> Exception | Preempted:
    """The one exception that says why the processes ended: a RunFault, Preempted or Interrupted."""
    if supervisor.hung:
        return _hung(supervisor.hung, supervisor)
    first = dict(sorted(failures.items(), key=lambda item: (item[1].time_s, item[0])))
    for rank, failure in first.items():
        if "fault" in failure.word:
            return _told(rank, failure.word["fault"])
    if supervisor.elsewhere:
        return supervisor.elsewhere
    for rank, failure in first.items():
        if failure.code < 0 and failure.code != -signal.SIGTERM and not _waited(rank, supervisor):
            return _killed(rank, signal.Signals(-failure.code), supervisor)
    for rank, failure in first.items():
        if failure.code > 0 and failure.code not in (PREEMPTED, INTERRUPTED) and not failure.word.get("lost"):
            message = f"rank {rank} ended with exit code {failure.code}{_where(rank, supervisor)}"
            return RunFault("SG434", "\n  ".join([message, *supervisor.last_lines(rank)]), AGAIN)
    codes = {failure.code for failure in failures.values()}
    if INTERRUPTED in codes:
        return Interrupted()
    if codes & {PREEMPTED, -signal.SIGTERM}:
        return Preempted()
    if fault := supervisor.heard():
        return fault
    alone = {rank: failure for rank, failure in first.items() if failure.word.get("lost")}
    if alone and not any(_waited(rank, supervisor) or _says(failure, WAITED) for rank, failure in first.items()):
        return _apart(*next(iter(alone.items())), supervisor)
    least = min((pulse.step for pulse in supervisor.last.values()), default=0)
    behind = {rank: pulse for rank, pulse in supervisor.last.items() if pulse.step == least}
    return _hung({rank: pulse for rank, pulse in behind.items() if not failures.get(rank, _NONE).word.get("lost")} or behind, supervisor)


_NONE = Failure(code=0, time_s=0.0)


def _told(rank: int, fault: dict[str, Any]) -> RunFault:
    message = f"{fault['message']} (rank {rank})" if rank else fault["message"]
    return RunFault(fault["code"], message, fault["hint"], exit_code=fault["exit_code"])


def _waited(rank: int, supervisor: Supervisor) -> bool:
    """Whether NCCL's watchdog ended the process because another one did not come."""
    return any("collective operation timeout" in line or "ProcessGroupNCCL" in line for line in supervisor.last_lines(rank))


def _says(failure: Failure, words: tuple[str, ...]) -> bool:
    """Whether the error that a process wrote down has one of these words."""
    return bool(failure.word) and any(word in failure.word["message"]["message"] for word in words)


def _killed(rank: int, number: signal.Signals, supervisor: Supervisor) -> RunFault:
    message = f"rank {rank} was killed by {number.name} (signal {number.value}){_where(rank, supervisor)}"
    if number == signal.SIGKILL:
        memory = "the machine's memory is the likely reason; lower train.micro_batch_size, or start fewer processes"
        return RunFault("SG452", message, f"{memory}; {AGAIN}")
    return RunFault("SG452", "\n  ".join([message, *supervisor.last_lines(rank)]), AGAIN)


def _apart(rank: int, failure: Failure, supervisor: Supervisor) -> RunFault:
    """All processes are there, and cannot speak with each other: the first one's error is the one to tell."""
    said = [line for line in failure.word["message"]["message"].splitlines() if line.strip()]
    message = f"rank {rank} lost the other processes{_where(rank, supervisor)}"
    usual = "where all of them lived, /dev/shm may be too small, or NCCL or Gloo take another network interface than they should"
    hint = f"{usual} (NCCL_SOCKET_IFNAME, GLOO_SOCKET_IFNAME); {AGAIN}"
    return RunFault("SG434", "\n  ".join([message, *said, *supervisor.last_lines(rank)]), hint)


def _hung(ranks: dict[int, Pulse], supervisor: Supervisor) -> RunFault:
    who = " and ".join(f"rank {rank}, last heard of at step {pulse.step} ({pulse.doing})," for rank, pulse in ranks.items())
    who = who or "a process that had not begun to train"
    message = f"training hangs: {who} did not go on for {supervisor.timeout_s:g} s; all processes were ended"
    return RunFault("SG453", message, f"where so long a step is right, raise distributed.ddp_timeout; {AGAIN}")


def _where(rank: int, supervisor: Supervisor) -> str:
    pulse = supervisor.last.get(rank)
    return f"; last heard of at step {pulse.step} ({pulse.doing})" if pulse else ""
