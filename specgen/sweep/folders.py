"""The two folders of a sweep: what its trials are compiled into (build/NAME-sweep), and what they leave (runs/NAME-sweep)."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from specgen.diagnostics import Diagnostic, SpecError
from specgen.runfolder import is_run
from specgen.sweep.results import Record, best_first
from specgen.sweep.space import Metric
from specgen.writing import write_whole

MARK = ".sweep"  # held while a sweep runs; says that the folder is ours
RECORDS = "sweep.json"
SUFFIX = "-sweep"


def open_folder(folder: Path, option: str) -> None:
    """Makes the folder of a sweep. Raises SpecError where something else is there, or it may not be written."""
    hint = f"choose another folder with {option}"
    try:
        if folder.exists() and not _is_ours(folder):
            what = "holds files that specgen did not write" if folder.is_dir() else "is a file"
            raise SpecError(Diagnostic(code="SG489", message=f"{folder} {what}; nothing was touched", hint=hint))
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / MARK, "A sweep of specgen. The lock is held while it runs.\n")
    except OSError as error:
        raise SpecError(Diagnostic(code="SG489", message=f"{folder} cannot be written: {error.strerror}", hint=hint)) from None


def _is_ours(folder: Path) -> bool:
    """Whether a folder is that of a sweep, or holds nothing but runs: its trials may have been run one by one."""
    return (folder / MARK).is_file() or (folder.is_dir() and all(map(is_run, folder.iterdir())))


@contextmanager
def held(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Holds the folder of a sweep. Raises SpecError where another process does. The lock ends with the process that holds it.

    A disk without locks is no reason not to sweep; a line says that nothing is held then.
    """
    with (folder / MARK).open("a") as stream:  # for writing: NFS locks no other file for one process alone
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            hint = "wait for it, or choose another folder with --runs-dir"
            raise SpecError(Diagnostic(code="SG488", message=f"another sweep is active in {folder}", hint=hint)) from None
        except OSError as error:  # NFS without its lock daemon, Lustre without flock
            say(f"note: {folder} cannot be locked ({error.strerror}): nothing keeps another sweep out of it")
        yield


def read_records(folder: Path) -> dict[str, Record]:
    """Label → what is recorded of that trial; empty where there is nothing, or nothing that this specgen has written."""
    try:
        found = json.loads((folder / RECORDS).read_text(encoding="utf-8"))
        records = [Record(**{key: value for key, value in record.items() if key != "score"}) for record in found["trials"]]
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    return {record.label: record for record in records}


def write_records(folder: Path, about: dict[str, object], records: list[Record], metric: Metric) -> None:
    """Writes sweep.json, whole or not at all: the best trial first, each with its score as people read it, higher or lower is better."""
    trials = [asdict(record) | {"score": _told(record.score(metric), metric)} for record in best_first(records, metric)]
    write_whole(folder / RECORDS, json.dumps({**about, "trials": trials}, ensure_ascii=False, indent=1) + "\n")


def _told(score: float | None, metric: Metric) -> float | None:
    return -score if metric == "smoke" and score is not None else score
