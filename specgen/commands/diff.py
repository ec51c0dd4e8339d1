"""specgen diff: what a change of specs means."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from specgen.compiler import Compiled, compile_spec
from specgen.diagnostics import Diagnostic, SpecError
from specgen.diff.compare import Difference, compare
from specgen.diff.folders import compare_configs, config_of
from specgen.diff.printers import as_data, as_markdown, is_empty
from specgen.diff.printers import as_text as difference_as_text
from specgen.diff.revisions import Range, has, inside, laid_out, parse_range, renames, specs_that_changed, top
from specgen.folder import is_compiled
from specgen.printers import as_json, as_text
from specgen.quoting import cell
from specgen.source import Node, parse

TOO_LARGE = "SG281"  # the memory gate: the plan is whole, it only does not fit


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One spec: what differs, or why that cannot be told; `kind` says whether it came or went.

    `compiled_before` is None where the two sides are not one spec at two times.
    """

    name: str
    kind: str
    difference: Difference | None = None
    faults: tuple[Diagnostic, ...] = ()
    compiled_before: bool | None = None

    @property
    def changed(self) -> bool:
        """Whether there is anything to tell."""
        return self.kind != "changed" or bool(self.faults) or (self.difference is not None and not is_empty(self.difference))


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How both sides are composed."""

    profile: str | None
    settings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A spec in one revision: its path from the root, where that is laid out, and the working folder below it."""

    path: Path
    folder: Path
    working: Path
    there: bool

    @property
    def start(self) -> Path:
        """Where the paths in the spec start: the working folder, if the revision has it."""
        start = self.folder / self.working
        return start if start.is_dir() else self.folder


Outcome = Compiled | SpecError | None  # None where the revision has no such spec


def of_files(before: Path, after: Path, choice: Choice) -> list[Entry]:
    """Two spec files, two compiled folders, or one of each. Raises SpecError where a side cannot be compiled or read."""
    folders = [is_compiled(path) for path in (before, after)]
    name = f"{before} → {after}"
    if any(folders):
        configs = [_config(path, is_folder, choice) for path, is_folder in zip((before, after), folders, strict=True)]
        return [Entry(name=name, kind="changed", difference=compare_configs(*configs))]
    sides = [Side(path=path, folder=Path.cwd(), working=Path(), there=True) for path in (before, after)]
    found = [_compiled(side, choice) for side in sides]
    for outcome in found:
        if isinstance(outcome, SpecError) and not _is_only_too_large(outcome):
            raise outcome
    return [replace(_told(sides, found, choice), name=name, kind="changed", compiled_before=None)]


def _config(path: Path, is_folder: bool, choice: Choice) -> Node:
    if is_folder:
        return config_of(path)
    return parse(compile_spec(path, choice.profile, choice.settings).files["config.yaml"], f"{path}, compiled")


def of_revisions(text: str, specs: tuple[Path, ...], choice: Choice) -> list[Entry]:
    """The specs of two git revisions; without `specs` all that the repository has. Raises SpecError for the call itself."""
    root, here = top(), Path.cwd()
    range_ = parse_range(text)
    paths = [_in_repository(spec, root) for spec in specs] or specs_that_changed(range_)
    working = here.resolve().relative_to(root.resolve()) if specs else Path()  # the repository's own specs are read from its root
    entries = []
    with laid_out(range_.before) as old, laid_out(range_.after) as new:
        for pair in _pairs(paths, range_):
            sides = _sides(pair, (old, new), range_, working)
            entries.append(_told(sides, [_compiled(side, choice) for side in sides], choice))
    return entries


def _sides(pair: tuple[Path, Path], folders: tuple[Path, Path], range_: Range, working: Path) -> list[Side]:
    there = (has(range_.before, pair[0]), has(range_.after, pair[1]))
    if not any(there):
        raise SpecError(Diagnostic(code="SG321", message=f"{pair[1]} is in neither of the two revisions"))
    return [
        Side(path=path, folder=folder, working=working, there=is_there) for path, folder, is_there in zip(pair, folders, there, strict=True)
    ]


def _told(sides: list[Side], found: list[Outcome], choice: Choice) -> Entry:
    """What differs, and also where a side does not fit into memory: that is what a reviewer has to know then."""
    entry = _entry(sides, found)
    if entry.difference is not None or not any(map(_is_only_too_large, found)):
        return entry
    ungated = replace(choice, settings=(*choice.settings, "hardware.device_memory=null"))
    return replace(entry, difference=_entry(sides, [_compiled(side, ungated) for side in sides]).difference)


def _is_only_too_large(found: Outcome) -> bool:
    return isinstance(found, SpecError) and all(fault.code == TOO_LARGE for fault in found.diagnostics if fault.severity == "error")


def _pairs(paths: list[Path], range_: Range) -> list[tuple[Path, Path]]:
    """The path of each spec on both sides: the same, unless it was renamed."""
    old_names = renames(range_)
    new_names = {old: new for new, old in old_names.items()}
    return list(dict.fromkeys((old_names.get(path, path), new_names.get(path, path)) for path in paths))


def _in_repository(spec: Path, root: Path) -> Path:
    try:
        return (Path.cwd() / spec).resolve().relative_to(root.resolve())
    except ValueError:
        raise SpecError(Diagnostic(code="SG321", message=f"{spec} is not in the repository {root}")) from None


def _entry(sides: list[Side], found: list[Outcome]) -> Entry:
    (old, new), (before, after) = sides, found
    renamed = old.path != new.path
    name = f"{old.path} → {new.path} (renamed)" if renamed else str(new.path)
    kind = "added" if before is None else "removed" if after is None else "renamed" if renamed else "changed"
    if isinstance(after, SpecError):
        return Entry(name=name, kind=kind, faults=after.diagnostics, compiled_before=isinstance(before, Compiled))
    if isinstance(before, Compiled) and isinstance(after, Compiled):
        with inside(old.start):  # what a half of the change comes to is worked out on the old files
            return Entry(name=name, kind=kind, difference=compare(before, after))
    return Entry(name=name, kind="mended" if isinstance(before, SpecError) and after else kind)


def _compiled(side: Side, choice: Choice) -> Outcome:
    if not side.there:
        return None
    try:
        with inside(side.start):
            return compile_spec(_from(side.path, side.working), choice.profile, choice.settings)
    except SpecError as error:
        return error


def _from(path: Path, working: Path) -> Path:
    """A path from the repository's root, as it is from the working folder."""
    return path.relative_to(working) if path.is_relative_to(working) else Path(*[".."] * len(working.parts), path)


SAID = {"added": "a new spec", "removed": "removed", "mended": "compiles now; it did not before"}


def printed(entries: list[Entry], form: str) -> str:
    """The entries that have something to tell, in a form: text, markdown or json."""
    entries = [entry for entry in entries if entry.changed or len(entries) == 1]
    if form == "json":
        return json.dumps([_as_data(entry) for entry in entries], ensure_ascii=False, indent=2)
    if not entries:
        return "no spec changes in effect"
    parts = [(_as_markdown if form == "markdown" else _as_text)(entry) for entry in entries]
    return "\n\n".join(part.rstrip("\n") for part in parts)


def _as_text(entry: Entry) -> str:
    told = entry.name if entry.difference is None else difference_as_text(entry.name, entry.difference)
    if entry.faults:
        return f"{told}\n  {_at_fault(entry)}:\n{as_text(entry.faults)}"
    return f"{told}\n  {SAID[entry.kind]}" if entry.kind in SAID else told


def _as_markdown(entry: Entry) -> str:
    told = f"### {cell(entry.name)}\n" if entry.difference is None else as_markdown(entry.name, entry.difference)
    if entry.faults:
        return f"{told}\n{_sentence(_at_fault(entry))}:\n\n```\n{as_text(entry.faults)}\n```\n"
    return f"{told}\n{_sentence(SAID[entry.kind])}.\n" if entry.kind in SAID else told


def _at_fault(entry: Entry) -> str:
    if entry.kind == "added":
        return "a new spec; it does not compile"
    if entry.compiled_before is None:
        return "does not compile"
    return "does not compile any more" if entry.compiled_before else "does not compile, as before"


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


def _as_data(entry: Entry) -> dict[str, object]:
    difference = as_data(entry.name, entry.difference) if entry.difference else {"spec": entry.name}
    return {**difference, "kind": entry.kind, "faults": as_json(entry.faults)}
