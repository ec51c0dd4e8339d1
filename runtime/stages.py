"""The stage graph: keys, atomic outputs, the manifest.

A stage's key is the hash of its part of the config, of its inputs' keys and of the versions that matter. Its output is
written to `STAGE.partial` beside and renamed when whole; a stage whose output has the right key is up to date.
"""

from __future__ import annotations

import gc
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from runtime import __version__, shortage
from runtime.config import Config, exports_more, to_plain
from runtime.faults import WRONG, RunFault
from runtime.freed import give_back

MARK = ".specgen"  # in a run folder; locked while a run is active
STAGE_FILE = "stage.json"
MANIFEST = "manifest.json"
LARGE_BYTES = 1_000_000

Summary = dict[str, Any]
Work = Callable[[Config, Path, Path], Summary]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """`part` picks what of the config the output depends on. `work` gets the config, the run folder and the folder to
    write to, and returns figures for the manifest. A `resumable` stage finds its partial folder as it left it."""

    name: str
    needs: tuple[str, ...]
    part: Callable[[Config], object]
    libraries: tuple[str, ...]
    work: Work
    resumable: bool = False

    def asked(self, config: Config) -> bool:
        """Whether the config asks for it; else it is left out."""
        return asks_for(config, self.name)


def asks_for(config: Config, stage: str) -> bool:
    """Whether the config asks for the stage of this name."""
    return {"eval": config.eval is not None, "export": exports_more(config)}.get(stage, True)


def keys(stages: Iterable[Stage], config: Config) -> dict[str, str]:
    """Stage name → key, a SHA-256 in hex, of those that the config asks for."""
    found: dict[str, str] = {}
    for stage in (stage for stage in stages if stage.asked(config)):
        content = {
            "stage": stage.name,
            "config": to_plain(stage.part(config)),
            "inputs": {need: found[need] for need in stage.needs if need in found},
            "versions": versions(stage.libraries),
        }
        found[stage.name] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return found


def versions(libraries: Iterable[str]) -> dict[str, str]:
    """Library → installed version; the runtime's own first."""
    return {"specgen": __version__, **{library: version(library) for library in libraries}}


def is_done(folder: Path, name: str, key: str) -> bool:
    """Whether the stage's output is there and made from exactly this."""
    return read_stage(folder, name).get("key") == key


def read_stage(folder: Path, name: str) -> dict[str, Any]:
    """What is recorded of a stage's output; empty where there is none."""
    return read_record(folder / name)


def read_record(output: Path) -> dict[str, Any]:
    """What is recorded of an output folder; empty where it is not whole."""
    try:
        record: dict[str, Any] = json.loads((output / STAGE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record


def carry_out(stage: Stage, config: Config, folder: Path, all_keys: dict[str, str]) -> Summary:
    """Runs one stage and puts its output in place. Raises whatever the stage raises; a partial folder may stay."""
    key = all_keys[stage.name]
    partial = folder / f"{stage.name}.partial"
    if read_record(partial).get("key") == key:  # whole: the run ended before it was renamed
        return put_in_place(stage, folder)
    partial = prepare_partial(stage, folder)
    started = time.monotonic()
    help_memory = "close other programs, or take a machine with more memory"
    discard = None if stage.resumable else partial
    with shortage.told(folder, lambda: f"in stage {stage.name}", changes=help_memory, discard=discard):
        summary = stage.work(config, folder, partial)
    record = {
        "stage": stage.name,
        "key": key,
        "inputs": {need: all_keys[need] for need in stage.needs if need in all_keys},
        "versions": versions(stage.libraries),
        "seconds": round(time.monotonic() - started, 2),
        "summary": summary,
    }
    write_json(partial / STAGE_FILE, record)
    give_back()
    gc.freeze()  # what is still there are libraries: no need to look through them after each stage
    return put_in_place(stage, folder)


def put_in_place(stage: Stage, folder: Path) -> Summary:
    """Gives a stage's whole output its name; returns its figures. What had the name goes only afterwards."""
    final, before = folder / stage.name, folder / f"{stage.name}.removing"
    shutil.rmtree(before, ignore_errors=True)
    if final.exists():
        final.rename(before)
    (folder / f"{stage.name}.partial").rename(final)
    shutil.rmtree(before, ignore_errors=True)
    write_manifest(folder)
    summary: Summary = read_stage(folder, stage.name)["summary"]
    return summary


def adopt(stage: Stage, folder: Path, key: str) -> Path | None:
    """Takes a stage's output from another run beside this one that has made it from exactly the same; returns that output's folder.

    Large files are shared through hard links where the file system has them: an output that is done is never written to.
    """
    others = (other / stage.name for other in sorted(folder.parent.iterdir()) if other != folder and is_done(other, stage.name, key))
    done = next(others, None)
    if done is None:
        return None
    copied = folder / f"{stage.name}.adopted"  # whole before it has a name that a run looks at
    shutil.rmtree(copied, ignore_errors=True)
    shutil.copytree(done, copied, copy_function=_link_large)
    shutil.rmtree(folder / f"{stage.name}.partial", ignore_errors=True)
    copied.rename(folder / f"{stage.name}.partial")
    put_in_place(stage, folder)
    return done


def _link_large(source: str, target: str) -> None:
    if Path(source).stat().st_size >= LARGE_BYTES:
        try:
            Path(target).hardlink_to(source)
            return
        except OSError:  # another file system, or one without links
            pass
    shutil.copy2(source, target)


def prepare_partial(stage: Stage, folder: Path) -> Path:
    """The folder that a stage writes to, empty; that of a resumable one as it was prepared (training/resume.py)."""
    partial = folder / f"{stage.name}.partial"
    if not stage.resumable:
        shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True, exist_ok=True)
    return partial


def write_manifest(folder: Path) -> None:
    """`manifest.json`: what made what, of all stages that are done."""
    records = {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob(f"*/{STAGE_FILE}"))}
    write_json(folder / MANIFEST, records)


def write_json(file: Path, content: object) -> None:
    """Writes a JSON file, whole or not at all."""
    partial = file.with_name(file.name + ".partial")
    partial.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    partial.replace(file)


def open_folder(folder: Path) -> None:
    """Makes the run folder. Raises RunFault where something else is there."""
    if folder.exists() and not folder.is_dir():
        raise RunFault("SG403", f"{folder} is a file", "choose another folder with --runs-dir", exit_code=WRONG)
    ours = (folder / MARK).exists() or not folder.exists() or not any(folder.iterdir())
    if not ours:
        message = f"{folder} holds files that specgen did not write; nothing was touched"
        hint = "choose another folder with --runs-dir, or move them away; a run of ours is resumed by itself"
        raise RunFault("SG403", message, hint, exit_code=WRONG)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARK).write_text("A run folder of specgen. The lock is held while a run is active.\n")
    except OSError as error:
        message = f"{folder} cannot be written: {error.strerror}"
        raise RunFault("SG404", message, "choose another folder with --runs-dir", exit_code=WRONG) from None
