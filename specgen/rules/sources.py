"""Rules about where data come from."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from specgen.diagnostics import Diagnostic
from specgen.facts.gather import SOURCES, Facts, source_lists
from specgen.plan import DataFile, FileVariable, HubBase
from specgen.source import Node
from specgen.validate import place_of

SMALL_SHARE, MANY_ROWS = 0.01, 1000


def paths_stay_inside(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A spec is reviewed and run from its repository: what lies outside of it is not there on another machine."""
    nodes: list[tuple[Node | None, Sequence[DataFile | FileVariable]]] = [(tree.at("template", "file"), ())]
    for sources, known in zip(source_lists(tree), facts.source_lists, strict=True):
        for source, found in zip(sources, known, strict=True):
            nodes += [(source.at("file", "path"), found.files), (source.at("file", "images"), ())]
            nodes += [(settings_of(source).at("variables", name, "file", "path"), (file,)) for name, file in found.variables.items()]
    tasks = tree.at("eval", "tasks")
    nodes += [(task.children["path"], ()) for task in (tasks.items if tasks else ())]
    nodes += [(item.children["image"], ()) for item in tree.children["smoke"].items]
    for node, files in nodes:
        if node is None or not isinstance(node.value, str):
            continue
        path = node.value
        linked = next((file.path for file in files if not Path(file.path).resolve().is_relative_to(Path.cwd().resolve())), None)
        why = (
            "is an absolute path" if Path(path).is_absolute()
            else "leaves the working folder" if ".." in Path(os.path.normpath(path)).parts
            else f"leads out of the working folder, by a link: {linked}" if linked
            else None
        )  # fmt: skip
        if why:
            yield Diagnostic(
                code="SG210",
                severity="warning",
                message=f"{path} {why}: another machine has something else there",
                place=node.place,
                hint="keep data and templates in the repository, or on the hub",
            )


def files_are_read_once(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """The same bytes in two sources count twice."""
    first: dict[str, tuple[int, str]] = {}
    for index, source in enumerate(facts.sources):
        for file in source.files:
            before = first.setdefault(file.sha256, (index, file.path))
            if before != (index, file.path):
                place = place_of(tree, "data", "sources", before[0], "file", "path")
                same = "is read twice" if before[1] == file.path else f"has the same bytes as {before[1]}"
                yield Diagnostic(
                    code="SG214",
                    severity="warning",
                    message=f"{file.path} {same}: its rows count twice",
                    place=place_of(tree, "data", "sources", index, "file", "path"),
                    hint="leave it out of one of the two; weight: 2 says that it is meant",
                    related=((place, "read here, too"),) if place and before[0] != index else (),
                )


def few_rows_are_left_out(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """on_bad_row: drop leaves rows out, up to data.limits.dropped."""
    files = [file for source in itertools.chain(*facts.source_lists) for file in source.files]
    bad_rows, rows = sum(file.bad_rows for file in files), sum(file.rows for file in files)
    most = tree.real("data", "limits", "dropped")
    if bad_rows > most * (bad_rows + rows):
        yield Diagnostic(
            code="SG234",
            message=f"{bad_rows / (bad_rows + rows):.1%} of the rows of files are left out for faults;"
            f" data.limits.dropped allows {most:.1%}",
            place=place_of(tree, "data", "limits", "dropped"),
            hint="mend the rows, or raise data.limits.dropped",
        )


def sources_carry_weight(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A source that is hardly there is hardly learned. A share says that it is meant."""
    if facts.rows is None or facts.rows < MANY_ROWS:
        return
    for index, source in enumerate(facts.sources):
        rows = source.rows or 0
        if 0 < rows < SMALL_SHARE * facts.rows and _share(tree.children["data"].children["sources"].items[index]).value is None:
            yield Diagnostic(
                code="SG215",
                severity="note",
                message=f"this source has {rows:,} of {facts.rows:,} rows, {rows / facts.rows:.1%}: little of it will be learned",
                place=place_of(tree, "data", "sources", index),
                hint="raise its weight or repeat, or lower the others'",
            )


def the_hub_is_pinned(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A branch on the hub is something else on another day. A lock beside the spec pins what has no revision."""
    if isinstance(facts.base, HubBase) and facts.base.revision in (None, "main"):
        yield _unpinned(facts.base.repo, tree, "model", "base")
    if facts.vision and isinstance(facts.vision.base, HubBase) and facts.vision.base.revision in (None, "main"):
        yield _unpinned(facts.vision.base.repo, tree, "model", "vision", "tower")
    for path, nodes, known in zip(SOURCES, source_lists(tree), facts.source_lists, strict=True):
        for index, (node, found) in enumerate(zip(nodes, known, strict=True)):
            hub = node.children.get("hub")
            if hub and hub.children["revision"].value in (None, "main") and not found.revision:
                yield _unpinned(hub.text("repo"), tree, *path, index, "hub", "repo")


def _unpinned(repo: str, tree: Node, *path: str | int) -> Diagnostic:
    return Diagnostic(
        code="SG521",
        severity="note",
        message=f"{repo} is taken as it is on the hub on the day of the run",
        place=place_of(tree, *path),
        hint="specgen lock writes the commit down beside the spec, and a run takes that",
    )


def settings_of(source: Node) -> Node:
    """What stands under the kind of a source."""
    return next(iter(source.children.values()))


def _share(source: Node) -> Node:
    return settings_of(source).children["share"]
