"""Faults of a run that a user can do something about. Codes are explained in schemas/diagnostics.yaml."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable

FAILED, WRONG, OURS, PREEMPTED, INTERRUPTED = 1, 2, 3, 75, 130


class RunFault(Exception):
    """What is wrong in a sentence, and what to do instead. `exit_code`: 1 the run failed, 2 the call is wrong."""

    def __init__(self, code: str, message: str, hint: str | None = None, *, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.code, self.message, self.hint, self.exit_code = code, message, hint, exit_code

    def __str__(self) -> str:
        lines = [f"error {self.code}: {self.message}"]
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class Interrupted(Exception):
    """The user stopped the run; what is done is saved."""


class Preempted(KeyboardInterrupt):
    """The scheduler takes the machine back; what is done is saved. Like Ctrl-C it passes whoever catches Exception."""


def exit_code_of(work: Callable[[], int]) -> int:
    """What a command's work returns, or the exit code of its fault, which is told, or that of Ctrl-C; a fault of ours is 3."""
    try:
        return work()
    except RunFault as fault:
        print(fault, file=sys.stderr, flush=True)
        return fault.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception:
        traceback.print_exc()
        return OURS
