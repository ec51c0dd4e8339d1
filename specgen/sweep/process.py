"""One trial in a process of its own: what it says goes on to this terminal, its faults are kept, and signals reach it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from specgen.exits import INTERRUPTED, PREEMPTED
from specgen.launch import environment, require_torch

LAST_WORDS_S = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A process that has ended. `code` is negative where a signal killed it; `stopped` where the sweep has to stop with it."""

    code: int
    errors: str
    stopped: bool


def carry_out(arguments: list[str]) -> Ended:
    """Runs `python -m runtime ARGUMENTS` to its end. Ctrl-C reaches it by itself, SIGTERM is handed on."""
    require_torch()
    sys.stdout.flush()
    said: list[str] = []
    command = [sys.executable, "-m", "runtime", *arguments]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, encoding="utf-8", errors="replace") as process:
        assert process.stderr is not None
        copier = threading.Thread(target=_copy, args=(process.stderr, said), daemon=True)
        copier.start()
        with _handing_on(process) as asked:
            code = _waited(process)
        copier.join(timeout=LAST_WORDS_S)  # processes that it left behind may hold its stream open
    stopped = code in (INTERRUPTED, PREEMPTED) or bool(asked)
    return Ended(code=PREEMPTED if asked else code, errors="".join(said), stopped=stopped)


def _waited(process: subprocess.Popen[str]) -> int:
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # it goes to both; the other one ends in its own way


def _copy(stream: IO[str], said: list[str]) -> None:
    for line in stream:
        said.append(line)
        sys.stderr.write(line)
        sys.stderr.flush()


@contextmanager
def _handing_on(process: subprocess.Popen[str]) -> Iterator[list[int]]:
    """Hands SIGTERM on; yields a list that is not empty once it came."""
    asked: list[int] = []

    def hand_on(number: int, _frame: Any) -> None:
        asked.append(number)
        process.terminate()

    before = signal.signal(signal.SIGTERM, hand_on)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)
