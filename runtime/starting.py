"""How every program of the runtime starts, in UTF-8 and with libraries that keep to themselves, and how one with threads ends."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import warnings
from contextlib import suppress
from typing import Any, NoReturn


def quiet() -> None:
    """Libraries speak up only when something is wrong: a run's own lines say the rest."""
    for name in ("HF_HUB_DISABLE_PROGRESS_BARS", "TRANSFORMERS_NO_ADVISORY_WARNINGS", "TQDM_DISABLE"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # Trainer counts the steps of accumulation itself, and tells accelerate 1
    logging.getLogger("accelerate.accelerator").addFilter(lambda record: "accumulation steps mismatch" not in str(record.msg))
    logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.simplefilter("ignore", FutureWarning)
    warnings.simplefilter("ignore", DeprecationWarning)


def end_on_sigterm() -> Any:
    """From here on SIGTERM ends this process as an exception does: what is left half written is cleared away. Returns what was done
    before, for signal.signal."""
    return signal.signal(signal.SIGTERM, _end)


def _end(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def in_utf8(module: str) -> None:
    """Starts again in UTF-8 mode where the locale is not UTF-8: file names and output hold any character."""
    if not sys.flags.utf8_mode and {sys.getfilesystemencoding().lower(), (sys.stdout.encoding or "").lower()} != {"utf-8"}:
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, "-X", "utf8", "-m", module, *sys.argv[1:]])


def leave(code: int, *, orderly: bool = True) -> NoReturn:
    """Ends this process without taking the interpreter down; what was registered with atexit is done where it is `orderly`.

    A thread of PyTorch's (of gloo, or one that computes an answer) that asks for the interpreter's lock while it is taken down ends
    the process with SIGABRT and "terminate called without an active exception", its work done or not: pytorch/pytorch#38228, #190489.
    """
    if orderly:
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # its reader may be gone
            stream.flush()
    os._exit(code)
