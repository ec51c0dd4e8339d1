"""A model folder that a command writes: whole, or not there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
    """A folder beside `out`, which gets that name at the end; it is removed where something fails. Raises RunFault where there is
    something already."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise RunFault("SG459", f"{out} is there already; nothing was touched", "give a new folder, or move that one away", exit_code=WRONG)
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if out.exists():
            out.rmdir()
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def copy_small_files(source: Path, out: Path) -> None:
    """Tokenizer, template and settings; not config.json, which has to say what the weights are."""
    for file in source.iterdir():
        if file.suffix in COPIED and file.name not in OF_THE_FOLDER and not file.name.endswith(".index.json"):
            shutil.copyfile(file, out / file.name)
