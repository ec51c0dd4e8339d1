"""A run folder is held by one process at a time: by a lock on its .specgen, which ends with the process that has it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime import console
from runtime.faults import WRONG, RunFault
from runtime.stages import MARK

LOCK_ATTEMPTS = 3


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the run folder. Raises RunFault where another process does.

    Tries for a moment: specgen status looks whether it is held. A disk without locks is no reason not to train; a line says that
    nothing is held then.
    """
    import fcntl

    with (folder / MARK).open("a") as stream:  # for writing: NFS locks no other file for one process alone
        for attempt in range(LOCK_ATTEMPTS):
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.02 if attempt + 1 < LOCK_ATTEMPTS else 0)
                continue
            except OSError as error:  # NFS without its lock daemon, Lustre without flock
                console.say("note", f"{folder} cannot be locked ({error.strerror}): nothing keeps another run out of it")
            yield
            return
    message = f"another run is active in {folder}"
    raise RunFault("SG406", message, "wait for it, or choose another folder with --runs-dir", exit_code=WRONG)
