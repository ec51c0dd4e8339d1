"""Bounds on what a spec's own expressions may take: Jinja in rules and templates, and patterns of files."""

from __future__ import annotations

import contextlib
import gc
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

MEGABYTES = 256


def told(error: Exception) -> str:
    """What an expression's failure is called."""
    return "it takes too much memory" if isinstance(error, MemoryError) else str(error) or type(error).__name__


class TooMuch(Exception):
    """An expression took more time than it may."""


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Within this, Python code that computes for longer than `seconds` ends with TooMuch, and what asks for more than
    256 MB ends with MemoryError.

    The time is what this thread itself uses, so that a busy machine changes nothing, nor what other threads do; and no garbage is
    collected meanwhile, which takes as long as the process is large. Neither bound holds where the system or a thread cannot have it.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        with _limited_memory(), _limited_time(seconds):
            yield
    finally:
        if collects:
            gc.enable()


@contextlib.contextmanager
def _limited_time(seconds: float) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    began = time.thread_time()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        left = seconds - (time.thread_time() - began)
        if left > 0:
            signal.setitimer(signal.ITIMER_PROF, left)
            return
        raise TooMuch(f"it takes more than {seconds:g} seconds")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextlib.contextmanager
def _limited_memory() -> Iterator[None]:
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        before = resource.getrlimit(resource.RLIMIT_AS)
        most = pages * resource.getpagesize() + MEGABYTES * 2**20
        if before[0] != resource.RLIM_INFINITY:
            most = min(most, before[0])
        resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    except (ImportError, OSError, ValueError):
        yield
        return
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
