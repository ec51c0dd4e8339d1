"""Starts the runtime in a process of its own. The two packages share no code, only the compiled folder."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from specgen.diagnostics import Diagnostic, SpecError
from specgen.exits import PREEMPTED

PREEMPTION = (signal.SIGTERM, signal.SIGUSR1)
TCMALLOC = ("/usr/lib/*/libtcmalloc_minimal.so.4", "/usr/lib/*/libtcmalloc.so.4", "/usr/lib64/libtcmalloc_minimal.so.4")
PRODUCTS = 128  # of oneDNN's; a step of LoRA with rows of one length needs about 35, forward and back


def become(module: str, arguments: list[str]) -> NoReturn:
    """Turns this process into `python -m MODULE ARGUMENTS`: signals and the exit code need no go-between."""
    require_torch()
    sys.stdout.flush()
    sys.stderr.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, PREEMPTION)  # one that comes now waits until the other can tell
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], environment())


def stop_when_preempted() -> None:
    """From here on a scheduler's signal ends this process with the exit code that says: the same command goes on."""
    for number in PREEMPTION:
        signal.signal(number, _preempted)


def _preempted(_number: int, _frame: object) -> NoReturn:
    sys.stderr.write("preempted; the same command goes on\n")
    raise SystemExit(PREEMPTED)


def start(module: str, arguments: list[str]) -> int:
    """Runs `python -m MODULE ARGUMENTS` to its end, with this terminal; returns its exit code. SIGTERM is handed on to it."""
    require_torch()
    with subprocess.Popen([sys.executable, "-m", module, *arguments], env=environment()) as process:
        signal.signal(signal.SIGTERM, lambda got, _frame: process.send_signal(got))
        while True:
            try:
                code = process.wait()
            except KeyboardInterrupt:
                continue  # Ctrl-C goes to both; the other one ends in its own way
            return 128 - code if code < 0 else code


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A process that has ended: its exit code, and what it said on standard output and on standard error."""

    code: int
    output: str
    errors: str


def run_quietly(module: str, arguments: list[str]) -> Done:
    """Runs `python -m MODULE ARGUMENTS` to its end and keeps what it says."""
    require_torch()
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], env=environment(), stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8"
    )
    return Done(code=done.returncode, output=done.stdout, errors=done.stderr)


def require_torch() -> None:
    """Raises SpecError where only the compiler is installed."""
    if importlib.util.find_spec("torch") is None:
        message = "counting tokens, running and chatting need PyTorch, which is not installed"
        raise SpecError(Diagnostic(code="SG311", message=message, hint="pip install 'specgen[train]'"))


def environment() -> dict[str, str]:
    """The environment for training: this one, told to keep freed memory instead of giving it back at each step.

    tcmalloc does that best and is preloaded where the machine has it, as PyTorch's own CPU launcher does; else glibc's
    malloc is told to. oneDNN keeps a compiled product for every length of rows that it has met, about 4 MB a length: fewer of them
    are kept. Measured: LOG.md.
    """
    environment = dict(os.environ)
    environment.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(PRODUCTS))
    library = next((file for pattern in TCMALLOC for file in Path("/").glob(pattern.lstrip("/"))), None)
    if library:
        environment.setdefault("LD_PRELOAD", str(library))
    else:
        environment.setdefault("MALLOC_MMAP_THRESHOLD_", str(2 * 10**9))
        environment.setdefault("MALLOC_TRIM_THRESHOLD_", str(4 * 10**9))
    return environment
