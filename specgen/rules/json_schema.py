"""A JSON Schema that a spec holds, of the answers of a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from specgen.diagnostics import Diagnostic
from specgen.modules import NOT_REGULAR
from specgen.source import Node


def schema_faults(node: Node, called: str, code: str) -> Iterator[Diagnostic]:
    """What is wrong with a schema; nothing where the node holds something else than a mapping."""
    from jsonschema import validators
    from jsonschema.exceptions import best_match

    if not isinstance(schema := node.plain(), dict):
        return
    try:
        checker = validators.validator_for(schema, default=validators.Draft202012Validator)
    except (AttributeError, TypeError, ValueError):  # urllib reads what stands there as an address
        at = node.children["$schema"]
        yield Diagnostic(code=code, message=f"{called} is no JSON Schema: $.$schema: it names no draft", place=at.place or at.key)
        return
    of_schemas = checker(checker.META_SCHEMA, format_checker=checker.FORMAT_CHECKER)  # a regular expression is a format of theirs
    try:
        error = best_match(of_schemas.iter_errors(schema))
    except NOT_REGULAR as reason:
        yield Diagnostic(code=code, message=f"{called} has a regular expression that is none: {reason}", place=node.key or node.place)
        return
    if error:
        at = _nearest(node, list(error.absolute_path))
        yield Diagnostic(code=code, message=f"{called} is no JSON Schema: {error.json_path}: {error.message}", place=at.place or at.key)
        return
    for ref in _unresolved(schema):
        hint = "only what is in the schema itself can be referred to: '#/$defs/NAME'"
        yield Diagnostic(code=code, message=f"{called} refers to {ref}, which is not there", place=node.key or node.place, hint=hint)


def _nearest(node: Node, path: list[str | int]) -> Node:
    for step in path:
        node = node.child(step) or node
    return node


def _unresolved(schema: dict[str, Any]) -> Iterator[str]:
    """References of a schema that lead nowhere, or out of it: nothing is fetched."""
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    root: Any = Registry().with_resource("", DRAFT202012.create_resource(schema))
    for ref in dict.fromkeys(_refs(schema)):
        try:
            root.resolver().lookup(ref)
        except (Unresolvable, ValueError, AttributeError, TypeError):  # what else the schema holds is not all checked by old drafts
            yield ref


def _refs(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from _refs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _refs(inner)
