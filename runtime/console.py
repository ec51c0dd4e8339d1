"""What a run prints: one line a stage, a bar while training. Plain lines where the output is no terminal."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PLAIN_LINES = 10  # progress lines of a training run where there is no terminal


def say(label: str, text: str) -> None:
    """One line: what it is about in the first column, then the text."""
    print(f"{label:<8} {text}", flush=True)


@dataclass(slots=True)
class TrainingBar:
    """Shows steps, loss, rate and speed. Made by `training_bar`."""

    total: int
    started: float
    progress: Progress | None = None
    task: TaskID | None = None

    def update(self, step: int, *, loss: float, learning_rate: float, tokens_per_s: float, memory_bytes: int, eta_s: float | None) -> None:
        """The figures of the step that has just ended; `eta_s` None where it is not known."""
        figures = f"loss {loss:.3g}  lr {learning_rate:.2g}  {tokens_per_s:,.0f} tok/s  {size(memory_bytes)}"
        left = f"  ETA {clock(eta_s)}" if eta_s else ""
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, completed=step, figures=figures + left)
        elif step == self.total or step % max(1, self.total // PLAIN_LINES) == 0:
            say("train", f"step {step}/{self.total}  {figures}  {clock(time.monotonic() - self.started)}{left}")

    def note(self, label: str, text: str) -> None:
        """A line above the bar."""
        if self.progress is not None:
            self.progress.console.print(f"{label:<8} {text}", markup=False, highlight=False)
        else:
            say(label, text)


@contextmanager
def training_bar(total: int, *, shown: bool) -> Iterator[TrainingBar]:
    """The bar of a training run of `total` steps; nothing moves where `shown` is false or there is no terminal."""
    if not (shown and sys.stdout.isatty()):
        yield TrainingBar(total, time.monotonic())
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("train   "), BarColumn(24), MofNCompleteColumn(), TextColumn("{task.fields[figures]}"), TimeElapsedColumn())
    with Progress(*columns) as progress:
        yield TrainingBar(total, time.monotonic(), progress, progress.add_task("train", total=total, figures=""))


@contextmanager
def counting_bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar that is told how many of `total` are done; nothing where there is no terminal."""
    if not sys.stdout.isatty():
        yield lambda _done: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn(), transient=True) as progress:
        task = progress.add_task(label, total=total)
        yield lambda done: progress.update(task, completed=done)


@contextmanager
def told_when_slow(label: str, text: str, *, after_s: float) -> Iterator[None]:
    """Says what is being waited for, once, where it takes longer than `after_s`."""
    timer = threading.Timer(after_s, say, (label, text))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(number: int) -> str:
    """Bytes as people read them, in powers of ten."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number >= factor:
            return f"{number / factor:.1f} {unit}"
    return f"{number} B"


def and_more(names: Sequence[str]) -> str:
    """Behind the first of some names: how many there are beside it."""
    return f" ({len(names) - 1} more)" if len(names) > 1 else ""


def one_line(text: str, limit: int = 100) -> str:
    """Text for a line: breaks become spaces, the end is cut."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"
