"""progress.json: where a run stands, for who looks from another terminal (specgen status).

Written whole, by the process that carries out the stage: the first one where several train. It says how the run ended, too;
one that says "running" while nobody holds the run folder's lock was killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from runtime.faults import Interrupted, Preempted, RunFault
from runtime.stages import write_json

PROGRESS = "progress.json"
INTERVAL_S = 1.0  # between two writes, at least
WINDOW = 50  # steps that the pace is taken over

State = Literal["running", "done", "stopped", "failed", "interrupted", "preempted"]


@contextlib.contextmanager
def recorded(folder: Path, *, begins: bool = True) -> Iterator[None]:
    """Writes down that a run is active, and with what it ends where it is not carried through. What a process of the same
    run has told of its end stays. `begins` is false in a process of a run that has begun."""
    if begins:
        _write(folder, {"state": "running", "started": time.time()})
    try:
        yield
    except RunFault as fault:
        _end_unless_told(folder, "failed", fault={"code": fault.code, "message": fault.message, "hint": fault.hint})
        raise
    except Preempted:
        _end_unless_told(folder, "preempted")
        raise
    except (Interrupted, KeyboardInterrupt):
        _end_unless_told(folder, "interrupted")
        raise
    except BaseException as error:
        _end_unless_told(folder, "failed", fault={"code": None, "message": f"{type(error).__name__}: {error}", "hint": None})
        raise


def read(folder: Path) -> dict[str, Any]:
    """What progress.json says; empty where there is none."""
    try:
        content: dict[str, Any] = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content


def _end_unless_told(folder: Path, state: State, **figures: Any) -> None:
    if read(folder).get("state") == "running":
        end(folder, state, **figures)


def end(folder: Path, state: State, **figures: Any) -> None:
    """Writes down how the run ended; where it stood stays."""
    _write(folder, read(folder) | {"state": state} | figures)


class StageProgress:
    """How far one stage is. `tell` may be called as often as one likes."""

    def __init__(self, folder: Path, stage: str) -> None:
        run = read(folder)
        self.folder = folder
        self.known = {"state": "running", "started": run.get("started", time.time()), "stage": stage}
        self.written = -INTERVAL_S
        self.tell()

    def tell(self, *, at_once: bool = False, **figures: Any) -> None:
        """Figures that are new: step, total, loss, learning_rate, grad_norm, tokens_per_s, memory_bytes, eta_s."""
        self.known |= figures
        now = time.monotonic()
        if at_once or now - self.written >= INTERVAL_S:
            self.written = now
            _write(self.folder, self.known)


class Pace:
    """How long the rest takes, from the last steps by the clock on the wall: validation, previews and checkpoints count."""

    def __init__(self) -> None:
        self.ends: deque[tuple[int, float]] = deque(maxlen=WINDOW + 1)

    def passed(self, step: int, now: float) -> None:
        """So many steps are done at this time, in seconds."""
        self.ends.append((step, now))

    def eta_s(self, total: int) -> float | None:
        """Seconds until `total` steps are done; None before there are two to compare."""
        if len(self.ends) < 2:
            return None
        (first, began), (last, ended) = self.ends[0], self.ends[-1]
        return (ended - began) / (last - first) * (total - last) if last > first else None


def _write(folder: Path, content: dict[str, Any]) -> None:
    who = {"pid": os.getpid(), "host": socket.gethostname(), "updated": time.time()}
    with contextlib.suppress(OSError):  # a run does not fail for want of its progress: a full disk is told where it costs something
        write_json(folder / PROGRESS, content | who)
