"""A model folder that a command writes: whole, or not there."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from runtime.faults import WRONG, RunFault

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
    before = signal.signal(signal.SIGTERM, _end)
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
        raise RunFault("SG459", f"{out} cannot be written: {error.strerror or error}", "give another folder", exit_code=WRONG) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def copy_small_files(source: Path, out: Path) -> None:
    """Tokenizer, template and settings; not config.json, which has to say what the weights are."""
    for file in source.iterdir():
        if file.suffix in COPIED and file.name not in OF_THE_FOLDER and not file.name.endswith(".index.json"):
            shutil.copyfile(file, out / file.name)
