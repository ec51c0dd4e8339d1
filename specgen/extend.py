"""`extends`: a spec builds on others. Their values keep the places in their own files."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path

from specgen.compose import overlaid
from specgen.diagnostics import Diagnostic, SpecError
from specgen.schema import spec_schema
from specgen.source import Node, parse, read

LONGEST_CHAIN = 16


def load(path: Path) -> Node:
    """The spec in a file, laid over those that it extends. Raises SpecError."""
    return _loaded(path, (path,))


def _loaded(path: Path, chain: tuple[Path, ...]) -> Node:
    own = parse(read(path), str(path))
    extends = own.children.get("extends")
    named = [] if extends is None else extends.items or [extends]
    if extends is None or not named or not all(isinstance(node.value, str) and node.value for node in named):
        return own  # what is wrong with it, validation tells
    parents = [_parent(node, path, chain) for node in named]
    if "name" not in own.children:
        message = "a spec that extends another needs a name of its own: it names the compiled folder and the run"
        raise SpecError(Diagnostic(code="SG114", message=message, place=extends.key, hint=f"add name: {path.stem}"))
    base, *others = parents
    for other in others:
        base = overlaid(base, other, spec_schema())
    children = {key: child for key, child in own.children.items() if key != "extends"}
    return overlaid(base, replace(own, value=children), spec_schema())


def _parent(node: Node, path: Path, chain: tuple[Path, ...]) -> Node:
    parent = path.parent / str(node.value)
    if any(_same(parent, other) for other in chain):
        names = " → ".join(str(other) for other in (*chain, parent))
        raise SpecError(Diagnostic(code="SG112", message=f"the specs extend each other in a circle: {names}", place=node.place))
    if len(chain) >= LONGEST_CHAIN:
        message = f"more than {LONGEST_CHAIN} specs build on one another"
        raise SpecError(Diagnostic(code="SG112", message=message, place=node.place, hint="extend the spec that has what you need"))
    if not parent.is_file():
        beside = sorted(file.name for file in parent.parent.glob("*.y*ml")) if parent.parent.is_dir() else []
        near = difflib.get_close_matches(parent.name, beside, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"the path starts at this file's folder, {path.parent.absolute()}"
        raise SpecError(Diagnostic(code="SG113", message=f"extends names {node.value}, which is not there", place=node.place, hint=hint))
    return _loaded(parent, (*chain, parent))


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()
