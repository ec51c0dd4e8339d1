"""Fills in what the spec leaves out, from the schema. A pure pass over a valid tree."""

from __future__ import annotations

from dataclasses import replace

from specgen.schema import Schema, child, is_variant, spec_schema, types
from specgen.source import Node


def complete(tree: Node) -> Node:
    """The tree with every default written out and every number in the type that the schema names.

    Values from the schema have no place: that is how a default is told from what the user wrote.
    """
    return _complete(tree, spec_schema())


def from_plain(value: object) -> Node:
    """Ordinary dicts, lists and scalars as a tree without places."""
    if isinstance(value, dict):
        return Node(value={key: from_plain(item) for key, item in value.items()})
    if isinstance(value, list):
        return Node(value=[from_plain(item) for item in value])
    assert value is None or isinstance(value, str | int | float | bool), value
    return Node(value=value)


def _complete(node: Node, schema: Schema | None) -> Node:
    if schema is None:
        return node
    if isinstance(node.value, dict):
        filled = {key: _complete(value, child(schema, key)) for key, value in node.value.items()}
        if not is_variant(schema):
            for key, sub in schema.get("properties", {}).items():
                if key not in filled and "default" in sub:
                    filled[key] = _complete(from_plain(sub["default"]), sub)
        return replace(node, value=filled)
    if isinstance(node.value, list):
        return replace(node, value=[_complete(item, schema.get("items")) for item in node.value])
    return replace(node, value=_normalised(node.value, types(schema)))


def _normalised(value: object, kinds: list[str]) -> str | int | float | bool | None:
    assert value is None or isinstance(value, str | int | float | bool), value
    if isinstance(value, float) and "integer" in kinds and value.is_integer():
        return int(value)  # 1e3 is a whole number to JSON Schema
    if isinstance(value, int) and not isinstance(value, bool) and "number" in kinds and "string" not in kinds:
        return float(value)
    return value
