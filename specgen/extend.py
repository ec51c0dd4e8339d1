"""`extends`: a spec builds on others. Their values keep the places in their own files."""

from __future__ import annotations

import difflib
import itertools
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from specgen.compose import overlaid
from specgen.diagnostics import Diagnostic, SpecError, printable
from specgen.schema import spec_schema
from specgen.source import Node, parse, read

MOST_SPECS = 16  # each time that one is named counts: a family that meets again and again grows quickly


def load(path: Path) -> Node:
    """The spec in a file, laid over those that it extends. Raises SpecError."""
    return _loaded(path, (path,), itertools.count(1))


def _loaded(path: Path, chain: tuple[Path, ...], met: Iterator[int]) -> Node:
    own = parse(read(path), str(path))
    extends = own.children.get("extends")
    named = [] if extends is None else extends.items or [extends]
    if extends is None or not named or not all(isinstance(node.value, str) and node.value for node in named):
        return own  # what is wrong with it, validation tells
    parents = [_parent(node, path, chain, met) for node in named]
    if "name" not in own.children:
        message = "a spec that extends another needs a name of its own: it names the compiled folder and the run"
        raise SpecError(Diagnostic(code="SG114", message=message, place=extends.key, hint=f"add name: {path.stem}"))
    base, *others = parents
    for other in others:
        base = overlaid(base, other, spec_schema())
    children = {key: child for key, child in own.children.items() if key != "extends"}
    return overlaid(base, replace(own, value=children), spec_schema())


def _parent(node: Node, path: Path, chain: tuple[Path, ...], met: Iterator[int]) -> Node:
    parent = path.parent / str(node.value)
    if not os.path.isfile(parent):  # noqa: PTH113  (Path's raises for a name that is too long)
        raise SpecError(_missing(parent, node, path))
    if any(_same(parent, other) for other in chain):
        names = " → ".join(str(other) for other in (*chain, parent))
        raise SpecError(Diagnostic(code="SG112", message=f"the specs extend each other in a circle: {names}", place=node.place))
    if next(met) >= MOST_SPECS:
        message = f"more than {MOST_SPECS} specs build on one another"
        raise SpecError(Diagnostic(code="SG112", message=message, place=node.place, hint="extend the spec that has what you need"))
    return _loaded(parent, (*chain, parent), met)


def _missing(parent: Path, node: Node, path: Path) -> Diagnostic:
    there = os.path.isdir(parent.parent)  # noqa: PTH112  (as above)
    beside = sorted(file.name for file in parent.parent.glob("*.y*ml") if file.is_file()) if there else []
    near = difflib.get_close_matches(parent.name, beside, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"the path starts at this file's folder, {path.parent.absolute()}"
    message = f"extends names {printable(str(node.value))}, which is not there, or is no file"
    return Diagnostic(code="SG113", message=message, place=node.place, hint=hint)


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()
