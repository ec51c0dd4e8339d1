"""Stopping on request: training ends after the step that runs, with a checkpoint."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class StopFlag:
    """Set by the first Ctrl-C; a second one ends the process at once."""

    requested = False


@contextmanager
def stop_on_interrupt(world_size: int) -> Iterator[StopFlag]:
    """Within this, Ctrl-C asks training to stop after the step that runs. Several processes could disagree on which step
    that is: they stop at once, and go on from their last checkpoint."""
    stop = StopFlag()
    if world_size > 1:
        yield stop
        return

    def request(_signal: int, _frame: object) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True

    before = signal.signal(signal.SIGINT, request)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
