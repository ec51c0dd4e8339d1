"""What a training process does for the one that started it: it ends with it, shows that it lives, and leaves word of its fault."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runtime.faults import FAILED, RunFault

LAUNCHER = "SPECGEN_LAUNCHER"  # the process number of the one that started this
FOLDER = "SPECGEN_RANKS"  # where its training processes leave their heartbeats
ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
PR_SET_PDEATHSIG = 1
BEAT_S = 1.0
WAITED = ("Timed out waiting", "collective operation timeout")  # gloo's words, and NCCL's, for a process that did not come
LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "NCCL", "Gloo", "gloo", *WAITED)


@dataclass(slots=True, kw_only=True)
class Pulse:
    """Where a training process is: optimizer step (from 1; 0 before the first), and what it does there."""

    pid: int
    step: int
    doing: str


def end_with_launcher() -> None:
    """Makes this process end with the one that started it, even when that is killed. Linux only; nothing elsewhere."""
    launcher = os.environ.get(LAUNCHER)
    if launcher is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(launcher):
        os._exit(FAILED)  # it was gone before this process could say so


def is_supervised() -> bool:
    """Whether this is a training process of one of ours, which tells how it ended."""
    return FOLDER in os.environ


@contextmanager
def beating(rank: int) -> Iterator[Pulse]:
    """Within this a thread writes the pulse down once a second, where something waits for it: a stopped process has none."""
    pulse = Pulse(pid=os.getpid(), step=0, doing="starting")
    folder = os.environ.get(FOLDER)
    if folder is None:
        yield pulse
        return
    ended = threading.Event()
    file = heartbeat(Path(folder), rank)
    thread = threading.Thread(target=_beat, args=(file, pulse, ended), daemon=True)
    thread.start()
    try:
        yield pulse
    finally:
        ended.set()
        thread.join()
        file.unlink(missing_ok=True)  # nobody waits for a process that has trained


def _beat(file: Path, pulse: Pulse, ended: threading.Event) -> None:
    while True:
        with suppress(OSError):  # of a full disk others tell
            file.with_suffix(".partial").write_text(json.dumps(asdict(pulse)))
            file.with_suffix(".partial").replace(file)
        if ended.wait(BEAT_S):
            return


def heartbeat(folder: Path, rank: int) -> Path:
    """The file of a training process's pulse; its age is how long ago the process last lived."""
    return folder / f"heartbeat-{rank}.json"


def pulses(folder: Path) -> dict[int, tuple[Pulse, float]]:
    """Rank → its last pulse, and the seconds since."""
    found = {}
    for file in sorted(folder.glob("heartbeat-*.json")):
        with suppress(OSError, ValueError):
            age_s = time.time() - file.stat().st_mtime
            found[int(file.stem.rpartition("-")[2])] = Pulse(**json.loads(file.read_text())), age_s
    return found


def lost_others(error: Exception) -> bool:
    """Whether this only tells that another training process is gone or late: that one's own fault is the one to tell."""
    is_of_communication = type(error).__name__.startswith("Dist") or isinstance(error, RuntimeError)
    return is_of_communication and any(words in str(error) for words in LOST)


def leave_word(error: BaseException) -> bool:
    """Writes a fault down for the process that started this one, which tells it; False where there is none, and nothing is done."""
    file = os.environ.get(ERROR_FILE)
    if file is None or not is_supervised():
        return False
    word: dict[str, Any] = {"py_callstack": "".join(traceback.format_exception(error)), "timestamp": str(int(time.time()))}
    content: dict[str, Any] = {"message": {"message": str(error), "extraInfo": word}}
    if isinstance(error, RunFault):
        content["fault"] = {"code": error.code, "message": error.message, "hint": error.hint, "exit_code": error.exit_code}
    elif isinstance(error, Exception):
        content["lost"] = lost_others(error)
    partial = Path(f"{file}.partial")  # the launcher reads it, too, maybe while it is written, and cannot read half of it
    with suppress(OSError):
        partial.write_text(json.dumps(content), encoding="utf-8")
        partial.replace(file)
    return True
