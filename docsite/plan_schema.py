"""schemas/plan.schema.json: the plan's dataclasses as JSON Schema. `python -m docsite.plan_schema` prints it."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from typing import Any, Literal

from specgen.plan import Plan


def text() -> str:
    """The file, as it is committed."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def json_schema() -> dict[str, Any]:
    """The draft-07 schema of `config.yaml`: all keys required, all objects closed. schemas/plan.schema.json is this."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": "https://specgen.dev/schemas/plan.schema.json",
        "title": "config.yaml of a compiled folder",
        "description": "Generated from specgen/plan.py; do not edit.",
        **schema_of(Plan),
    }


def schema_of(kind: Any) -> dict[str, Any]:
    """What a type of a field takes. A class with a TAG is a mapping of that one key."""
    if kind is Any:
        return {}
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [schema_of(part) for part in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": schema_of(arguments[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema_of(arguments[1])}
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        properties = {field.name: schema_of(hints[field.name]) for field in dataclasses.fields(kind)}
        fields = {"type": "object", "additionalProperties": False, "required": list(properties), "properties": properties}
        tag = getattr(kind, "TAG", None)
        if tag is None:
            return fields
        return {"type": "object", "additionalProperties": False, "required": [tag], "properties": {tag: fields}}
    names = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
    return {"type": names[kind]}


if __name__ == "__main__":
    print(text(), end="")
