"""A model folder that a command writes: whole, or not there."""

from __future__ import annotations

import errno
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.faults import WRONG, RunFault
from runtime.starting import end_on_sigterm

FULL = (errno.ENOSPC, errno.EDQUOT)

# a model's small files that go with its weights; those that are written anew, or say something of the folder itself, do not
COPIED = (".json", ".jinja", ".model", ".txt", ".py")
OF_THE_FOLDER = (
    "config.json",
    "adapter_config.json",
    "trained_on.json",
    "merged.json",
    "stage.json",
    "sealed.json",
    "contract.json",
    "trainer_state.json",
)


@contextmanager
def written_aside(out: Path) -> Iterator[Path]:
    """A folder beside `out`, which gets that name at the end; it is removed where something fails, and on SIGTERM. Raises RunFault
    where there is something already, or nothing can be written."""
    place = out.absolute()
    if place.exists() and not (place.is_dir() and not any(place.iterdir())):
        raise RunFault("SG459", f"{out} is there already; nothing was touched", "give a new folder, or move that one away", exit_code=WRONG)
    before = end_on_sigterm()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}-") as aside:
            partial = Path(aside, "partial")
            partial.mkdir()
            yield partial
            if place.exists():
                place.rmdir()
            partial.rename(place)
    except OSError as error:
        if not _is_of_writing(error, place):
            raise
        raise RunFault("SG459", f"{out} cannot be written: {error.strerror or error}", "give another folder", exit_code=WRONG) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _is_of_writing(error: OSError, place: Path) -> bool:
    """Whether the place is at fault, and not something that is read meanwhile: it is full, or the error names it, a folder that it is
    to lie in, or something in the folder aside."""
    if error.errno in FULL:
        return True
    named = [Path(str(name)).absolute() for name in (error.filename, error.filename2) if name is not None]
    aside = str(place.with_name(f".{place.name}-"))
    return any(path in (place, *place.parents) or str(path).startswith(aside) for path in named)


def copy_small_files(source: Path, out: Path) -> None:
    """Tokenizer, template and settings; not config.json, which has to say what the weights are. Raises RunFault where one cannot be
    read."""
    for file in source.iterdir():
        if file.suffix in COPIED and file.name not in OF_THE_FOLDER and not file.name.endswith(".index.json"):
            try:
                shutil.copyfile(file, out / file.name)
            except OSError as error:
                if str(error.filename) != str(file):
                    raise
                raise RunFault("SG441", f"{file} cannot be read: {error.strerror}", exit_code=WRONG) from None
