"""Stopping on request: Ctrl-C, and the signals with which a scheduler takes its machine back.

SIGTERM (preemption) and SIGUSR1 (Slurm's warning: sbatch --signal) end a run with exit code 75, Ctrl-C with 130. Training saves
a checkpoint at the end of the step that runs; every other stage stops at once, as it is cheap to begin anew.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from runtime.faults import Interrupted, Preempted

if TYPE_CHECKING:
    from runtime.processes.together import Together

PREEMPTION = (signal.SIGTERM, signal.SIGUSR1)
SOON_S = 0.05


def listen() -> None:
    """From here on a preemption raises Preempted in the main thread. One that came before, and was held back, comes now."""
    for number in PREEMPTION:
        signal.signal(number, _preempted)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PREEMPTION)
    sys.unraisablehook = _sent_again


def _sent_again(lost: sys.UnraisableHookArgs) -> None:
    """Python drops what is raised while an object goes: a request to stop that came just then is sent once more."""
    if lost.exc_type not in (KeyboardInterrupt, Preempted):
        sys.__unraisablehook__(lost)
        return
    again = signal.SIGINT if lost.exc_type is KeyboardInterrupt else signal.SIGTERM
    threading.Timer(SOON_S, os.kill, (os.getpid(), again)).start()  # here it would be dropped again


def _preempted(_number: int, _frame: object) -> NoReturn:
    raise Preempted


class StopFlag:
    """`requested`: the signal that came, 0 as long as none did. `agreed`: the one that all processes stop for, after a step."""

    requested = 0
    agreed = 0

    def agree(self, together: Together) -> bool:
        """Whether any process was asked to stop; all of them ask at the same place. SIGTERM outranks Ctrl-C."""
        self.agreed = together.highest(self.requested)
        return bool(self.agreed)

    def carry_out(self) -> None:
        """Raises Interrupted or Preempted if training has stopped for a request."""
        if self.agreed == signal.SIGINT:
            raise Interrupted
        if self.agreed:
            raise Preempted


@contextmanager
def stop_on_request() -> Iterator[StopFlag]:
    """Within this, Ctrl-C or a preemption asks training to stop after the step that runs; a second Ctrl-C ends the process at once."""
    stop = StopFlag()

    def request(number: int, _frame: object) -> None:
        if stop.requested == number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.requested = max(stop.requested, number)

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, *PREEMPTION)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
