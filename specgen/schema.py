"""The only reader of schemas/. Knows the spec's keys, types, defaults, descriptions and examples."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from specgen.places import data_folder

Schema = dict[str, Any]

AGAIN = ("data.validation.sources", "eval.sources", "smoke.then.expect")  # what stands elsewhere already


@cache
def spec_schema() -> Schema:
    """The schema of a spec, draft-07, with what it defines once put wherever it is referred to."""
    schema: Schema = json.loads((data_folder("schemas") / "spec.schema.json").read_text(encoding="utf-8"))
    definitions = schema.pop("definitions")
    expanded: Schema = _expanded(schema, definitions)
    return expanded


@cache
def refusals() -> tuple[str, ...]:
    """The texts of schemas/refusals.yaml, language by language: what a refusal is known by."""
    import yaml

    found = yaml.safe_load((data_folder("schemas") / "refusals.yaml").read_text(encoding="utf-8"))
    return tuple(text for texts in found.values() for text in texts)


def _expanded(part: Any, definitions: Schema) -> Any:
    if isinstance(part, list):
        return [_expanded(item, definitions) for item in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return _expanded(definitions[part["$ref"].removeprefix("#/definitions/")], definitions)
    return {key: _expanded(value, definitions) for key, value in part.items()}


def child(schema: Schema, step: str | int) -> Schema | None:
    """The schema of a key or an item, or None where the schema does not know it."""
    if isinstance(step, int):
        return schema.get("items")
    if step in schema.get("properties", {}):
        found: Schema = schema["properties"][step]
        return found
    extra = schema.get("additionalProperties")
    return extra if isinstance(extra, dict) else None


def lookup(dotted: str) -> Schema | None:
    """The schema of a dotted path such as `train.learning_rate`; list items are stepped into by themselves."""
    schema: Schema | None = spec_schema()
    for step in dotted.split("."):
        while schema is not None and "items" in schema and step not in schema.get("properties", {}):
            schema = schema["items"]
        if schema is None:
            return None
        schema = child(schema, step)
    return schema


def default_of(dotted: str) -> Any:
    """The default of a key that has one."""
    schema = lookup(dotted)
    assert schema is not None and "default" in schema, dotted
    return schema["default"]


def keys() -> Iterator[tuple[str, Schema]]:
    """Every key of the spec as a dotted path with its schema, in the order of the schema; what stands twice once."""
    yield from _keys(spec_schema(), "")


def _keys(schema: Schema, prefix: str) -> Iterator[tuple[str, Schema]]:
    for name, sub in schema.get("properties", {}).items():
        yield prefix + name, sub
        if prefix + name not in AGAIN:
            yield from _keys(sub, f"{prefix}{name}.")
    if isinstance(schema.get("items"), dict):
        yield from _keys(schema["items"], prefix)


def types(schema: Schema) -> list[str]:
    """The JSON types that a schema admits, null last."""
    kind = schema.get("type", [])
    return [kind] if isinstance(kind, str) else sorted(kind, key="null".__eq__)


def is_variant(schema: Schema) -> bool:
    """Whether this is an object of exactly one key, whose name says which variant it is."""
    return schema.get("maxProperties") == 1
