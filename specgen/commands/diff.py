"""specgen diff: what a change of specs means."""

from __future__ import annotations

import json
from dataclasses import dataclass
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
from specgen.source import Node, parse


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One spec: what differs, or why that cannot be told; `kind` says whether it came or went."""

    name: str
    kind: str
    difference: Difference | None = None
    faults: tuple[Diagnostic, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether there is anything to tell."""
        return self.kind != "changed" or bool(self.faults) or (self.difference is not None and not is_empty(self.difference))


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How both sides are composed."""

    profile: str | None
    settings: tuple[str, ...]


def of_files(before: Path, after: Path, choice: Choice) -> list[Entry]:
    """Two spec files, two compiled folders, or one of each. Raises SpecError where a side cannot be compiled or read."""
    folders = [is_compiled(path) for path in (before, after)]
    name = f"{before} → {after}"
    if any(folders):
        configs = [_config(path, is_folder, choice) for path, is_folder in zip((before, after), folders, strict=True)]
        return [Entry(name=name, kind="changed", difference=compare_configs(*configs))]
    compiled = [compile_spec(path, choice.profile, choice.settings) for path in (before, after)]
    return [Entry(name=name, kind="changed", difference=compare(*compiled))]


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
    with laid_out(range_.before) as old, laid_out(range_.after) as new:
        entries = []
        for before, after in _pairs(paths, range_):
            there = (has(range_.before, before), has(range_.after, after))
            if not any(there):
                raise SpecError(Diagnostic(code="SG321", message=f"{after} is in neither of the two revisions"))
            sides = [
                _compiled(folder, path, working, choice) if is_there else None
                for folder, path, is_there in zip((old, new), (before, after), there, strict=True)
            ]
            entries.append(_entry(before, after, sides[0], sides[1]))
        return entries


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


def _entry(old: Path, new: Path, before: Compiled | SpecError | None, after: Compiled | SpecError | None) -> Entry:
    renamed = old != new
    name = f"{old} → {new} (renamed)" if renamed else str(new)
    kind = "added" if before is None else "removed" if after is None else "renamed" if renamed else "changed"
    if isinstance(after, SpecError):
        return Entry(name=name, kind=kind, faults=after.diagnostics)
    if isinstance(before, Compiled) and isinstance(after, Compiled):
        return Entry(name=name, kind=kind, difference=compare(before, after))
    return Entry(name=name, kind="mended" if isinstance(before, SpecError) and after else kind)


def _compiled(folder: Path, path: Path, working: Path, choice: Choice) -> Compiled | SpecError:
    start = folder / working if (folder / working).is_dir() else folder
    try:
        with inside(start):
            return compile_spec(_from(path, working), choice.profile, choice.settings)
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
    if entry.faults:
        return f"{entry.name}\n  does not compile any more:\n{as_text(entry.faults)}"
    if entry.difference is None:
        return f"{entry.name}\n  {SAID[entry.kind]}"
    return difference_as_text(entry.name, entry.difference)


def _as_markdown(entry: Entry) -> str:
    if entry.faults:
        return f"### {entry.name}\n\nDoes not compile any more:\n\n```\n{as_text(entry.faults)}\n```\n"
    if entry.difference is None:
        return f"### {entry.name}\n\n{SAID[entry.kind][:1].upper()}{SAID[entry.kind][1:]}.\n"
    return as_markdown(entry.name, entry.difference)


def _as_data(entry: Entry) -> dict[str, object]:
    if entry.difference is None:
        return {"spec": entry.name, "kind": entry.kind, "faults": as_json(entry.faults)}
    return {**as_data(entry.name, entry.difference), "kind": entry.kind}
