"""The sound rest of a spec that does not fit its schema, so that its other faults can be told in the same go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from specgen.diagnostics import Diagnostic, Place
from specgen.source import Node
from specgen.validate import schema_errors

MOST_ROUNDS = 6  # each takes out one level more

Path = tuple[str | int, ...]


def sound_part(tree: Node) -> Node | None:
    """The tree without the parts that are at fault, which then take their defaults; None where one of them is required."""
    for _ in range(MOST_ROUNDS):
        errors = schema_errors(tree)
        if not errors:
            return tree
        faulty = {path for error in errors for path in _paths(error)}
        if () in faulty:
            return None
        tree = _without(tree, faulty)
    return None


def apart_from(faults: Iterable[Diagnostic], found: Iterable[Diagnostic], tree: Node) -> list[Diagnostic]:
    """The errors found in the sound part, but for those in a section that has faults: they may only follow from them."""
    told = {fault.place for fault in faults if fault.place}
    sections = [_places(node) for node in tree.children.values()]
    unclear = {place for places in sections if places & told for place in places}
    return [fault for fault in found if fault.severity == "error" and fault.place and fault.place not in unclear]


def _paths(error: Any) -> list[Path]:
    path: Path = tuple(error.absolute_path)
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        return [(*path, name) for name in error.instance if name not in known]
    return [path]


def _without(node: Node, faulty: set[Path], path: Path = ()) -> Node:
    if isinstance(node.value, dict):
        kept = {key: child for key, child in node.value.items() if (*path, key) not in faulty}
        return replace(node, value={key: _without(child, faulty, (*path, key)) for key, child in kept.items()})
    if isinstance(node.value, list):
        items = [(index, item) for index, item in enumerate(node.value) if (*path, index) not in faulty]
        return replace(node, value=[_without(item, faulty, (*path, index)) for index, item in items])
    return node


def _places(node: Node) -> set[Place]:
    found = {place for place in (node.place, node.key) if place}
    for child in [*node.children.values(), *node.items]:
        found |= _places(child)
    return found
