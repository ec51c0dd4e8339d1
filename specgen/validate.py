"""Tree + schema → diagnostics: unknown and misplaced keys, wrong types, values out of range; all at once."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

from specgen.diagnostics import Diagnostic, Place, in_file_order
from specgen.schema import Schema, is_variant, keys, spec_schema, types
from specgen.source import Node, scalar

TYPE_NAMES = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}
# the schema's words for the ends of a range
RANGES = {"minimum": "at least", "exclusiveMinimum": "greater than", "maximum": "at most", "exclusiveMaximum": "less than"}
MOST_FAULTS = 200
MOST_UNKNOWN = 100  # keys of one mapping
LONGEST_SHOWN = 70
MOST_LISTED = 8
MOST_VALUES = 30


def validate(tree: Node) -> list[Diagnostic]:
    """Every way in which the tree differs from the schema, in file order. An empty list means that it is valid."""
    errors = schema_errors(tree)
    mistyped = {tuple(error.absolute_path) for error in errors if error.validator == "type"}
    faults: list[Diagnostic] = []
    for error in errors:
        if error.validator == "type" or tuple(error.absolute_path) not in mistyped:
            faults += _diagnose(error, tree)
    return _as_many_as_one_reads(in_file_order(faults))


def _as_many_as_one_reads(faults: list[Diagnostic]) -> list[Diagnostic]:
    """A file of another kind has thousands of faults; what follows the first of them is counted."""
    if len(faults) <= MOST_FAULTS:
        return faults
    first, count = faults[MOST_FAULTS], len(faults) - MOST_FAULTS
    return [*faults[:MOST_FAULTS], Diagnostic(code=first.code, message=f"{count:,} more faults from here on", place=first.place)]


def schema_errors(tree: Node) -> list[Any]:
    """jsonschema's own errors."""
    return list(_validator().iter_errors(tree.plain()))


@cache
def _validator() -> Any:
    import jsonschema

    return jsonschema.Draft7Validator(spec_schema())


def _diagnose(error: Any, tree: Node) -> Iterator[Diagnostic]:
    path = list(error.absolute_path)
    node = tree.at(*path)
    assert node is not None, path
    kind = "propertyNames" if "propertyNames" in error.absolute_schema_path else str(error.validator)
    yield from _WORDINGS.get(kind, _other)(error, node, path)


def _unknown_keys(error: Any, node: Node, path: list[str | int]) -> Iterator[Diagnostic]:
    known = error.schema.get("properties", {})
    prefixes = tuple(pattern.lstrip("^") for pattern in error.schema.get("patternProperties", {}))
    unknown = [(name, value) for name, value in node.children.items() if name not in known and not (prefixes and name.startswith(prefixes))]
    owner, free = dotted(path) or "a spec", [key for key in known if key not in node.children] or list(known)
    if len(unknown) > MOST_UNKNOWN:
        count, first = len(unknown) - MOST_UNKNOWN, unknown[MOST_UNKNOWN][1].key
        yield Diagnostic(code="SG101", message=f"{owner} has {count:,} more keys that are none of its own", place=first)
    for name, value in unknown[:MOST_UNKNOWN]:
        here = dotted([*path, name])
        homes = [key for key, _ in keys() if key.rpartition(".")[2] == name and key != here]
        near = difflib.get_close_matches(name, free, n=1) if len(name) <= LONGEST_SHOWN else []
        if homes:
            message = f"{here} is no key of {owner}; {name} belongs under {_homes(homes)}"
            yield Diagnostic(code="SG102", message=message, place=value.key, hint=f"write it as {homes[0]}")
        elif near:
            message = f"{here} is no key of {owner}; did you mean '{near[0]}'?"
            yield Diagnostic(code="SG101", message=message, place=value.key)
        else:
            message = f"{here} is no key of {owner}"
            listed = (
                f"its keys are {', '.join(known)}" if len(known) <= MOST_LISTED or not path else f"specgen explain {owner} lists its keys"
            )
            yield Diagnostic(code="SG101", message=message, place=value.key, hint=listed)


def _homes(homes: list[str]) -> str:
    sections = [home.rpartition(".")[0] or "the top of the spec" for home in homes]
    return " or ".join(dict.fromkeys(sections[:3]))


def _wrong_type(error: Any, node: Node, path: list[str | int]) -> Iterator[Diagnostic]:
    wanted = types(error.schema)
    message = f"{dotted(path)} is {_type_name(node)}; it has to be {_or(TYPE_NAMES[kind] for kind in wanted)}"
    yield Diagnostic(code="SG103", message=message, place=node.place, hint=_type_hint(error, node, wanted))


def _type_hint(error: Any, node: Node, wanted: list[str]) -> str | None:
    value = node.value
    if "string" in wanted and isinstance(value, bool | int | float):
        return f'write "{node.raw if node.raw is not None else value}" in quotes'
    if isinstance(value, str) and node.raw is None and isinstance(scalar(value), int | float):
        return f"write {value} without quotes"
    if "boolean" in wanted and isinstance(value, str):
        return "write true or false; yes, no, on and off are text in YAML 1.2"
    if "array" in wanted and isinstance(value, str | int | float):
        return f"write [{node.raw if node.raw is not None else value}]"
    if "array" in wanted and isinstance(value, dict):
        return "put '- ' before each item"
    examples = error.schema.get("examples")
    return f"for example {_short(examples[0])}" if examples else None


def _not_allowed(error: Any, node: Node, path: list[str | int]) -> Iterator[Diagnostic]:
    allowed = [_short(value) for value in error.schema["enum"]]
    known_as = error.schema.get("x-known-as", {}).get(str(node.value))  # what people call it elsewhere
    near = [known_as] if known_as else difflib.get_close_matches(str(node.value), allowed, n=1)
    listed = f"the values are {', '.join(allowed)}" if len(allowed) <= MOST_VALUES else f"specgen explain {dotted(path)} lists the values"
    choice = f"the only value is {allowed[0]}" if len(allowed) == 1 else listed
    ending = f"; did you mean {near[0]}?" if near else ""
    message = f"{dotted(path)} cannot be {_short(node.value if node.raw is None else node.raw)}; {choice}{ending}"
    yield Diagnostic(code="SG104", message=message, place=node.place)


def _out_of_range(error: Any, node: Node, path: list[str | int]) -> Iterator[Diagnostic]:
    message = f"{dotted(path)} is {_short(node.value)}; it has to be {RANGES[error.validator]} {_short(error.validator_value)}"
    yield Diagnostic(code="SG105", message=message, place=node.place)


def _missing_key(error: Any, node: Node, path: list[str | int]) -> Iterator[Diagnostic]:
    # jsonschema reports one error for each missing key; all of them carry the whole list
    missing = next(key for key in error.validator_value if f"'{key}'" in error.message)
    sub = error.schema["properties"][missing]
    message = f"{dotted(path) or 'the spec'} has no {missing}: {_first_sentence(sub)}"
    yield Diagnostic(code="SG106", message=message, place=node.key or node.place, hint=f"add {missing}: {_short(sub['examples'][0])}")


def _bad_form(error: Any, node: Node, path: list[str | int]) -> Iterator[Diagnostic]:
    message = f"{dotted(path)} cannot be {_short(node.value)}: {error.schema.get('description', '').strip()}"
    examples = error.schema.get("examples")
    yield Diagnostic(code="SG107", message=message, place=node.place, hint=f"for example {_short(examples[0])}" if examples else None)


def _wrong_count(error: Any, node: Node, path: list[str | int]) -> Iterator[Diagnostic]:
    name = dotted(path) or "the spec"
    known = error.schema.get("properties")
    if known is None:
        yield Diagnostic(code="SG108", message=f"{name} is empty; it needs at least one value", place=node.key or node.place)
    elif error.validator == "maxProperties":
        message = f"{name} has {len(node.children)} keys ({', '.join(node.children)}); exactly one is allowed"
        yield Diagnostic(code="SG108", message=message, place=node.place, hint="each list item and each variant has one key")
    else:
        message = f"{name} is empty; it needs one of {', '.join(known)}"
        yield Diagnostic(code="SG108", message=message, place=node.key or node.place)


def _bad_profile_name(error: Any, node: Node, path: list[str | int]) -> Iterator[Diagnostic]:
    name = error.instance
    child = node.children.get(name)
    message = f"the profile name {_short(name)} may hold only letters, digits, '.', '_' and '-'"
    yield Diagnostic(code="SG107", message=message, place=child.key if child else node.place)


def _other(error: Any, node: Node, path: list[str | int]) -> Iterator[Diagnostic]:
    yield Diagnostic(code="SG107", message=f"{dotted(path) or 'the spec'}: {error.message}", place=node.place)


Wording = Callable[[Any, Node, list[str | int]], Iterator[Diagnostic]]
_WORDINGS: dict[str, Wording] = {
    "additionalProperties": _unknown_keys,
    "type": _wrong_type,
    "enum": _not_allowed,
    "minimum": _out_of_range,
    "maximum": _out_of_range,
    "exclusiveMinimum": _out_of_range,
    "exclusiveMaximum": _out_of_range,
    "required": _missing_key,
    "pattern": _bad_form,
    "minLength": _bad_form,
    "maxLength": _bad_form,
    "minProperties": _wrong_count,
    "maxProperties": _wrong_count,
    "minItems": _wrong_count,
    "propertyNames": _bad_profile_name,
}


def dotted(path: Sequence[str | int]) -> str:
    """`["data", "sources", 0, "file"]` as `data.sources[0].file`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{_clipped(step)}" if text else _clipped(step)
    return text


def in_words(schema: Schema) -> str:
    """What a key takes: its type and range, or its values."""
    if "enum" in schema:
        return "one of " + ", ".join(map(written, schema["enum"])) if len(schema["enum"]) > 1 else f"only {written(schema['enum'][0])}"
    words = " or ".join(TYPE_NAMES[kind] for kind in types(schema))
    if is_variant(schema):
        words = words.replace("a mapping", f"a mapping with one of the keys {', '.join(schema['properties'])}")
    items = schema.get("items")
    if items and set(types(items)) <= {"string", "number", "integer"}:
        words = words.replace("a list", f"a list of {' or '.join(TYPE_NAMES[kind] for kind in types(items))}")
    return ", ".join([words, *(f"{word} {written(schema[key])}" for key, word in RANGES.items() if key in schema)])


def written(value: object) -> str:
    """A plain value as a spec says it, on one line."""
    import json

    if isinstance(value, str) and value.isprintable() and value.strip() == value != "":
        return value
    return json.dumps(value, ensure_ascii=False)


def _type_name(node: Node) -> str:
    value = node.value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"the number {node.raw if node.raw is not None else value}"
    if isinstance(value, str):
        return f"the text {_short(value)}"
    if value is None:
        return "empty"
    return "a mapping" if isinstance(value, dict) else "a list"


def _short(value: object) -> str:
    """A value as one would write it in the spec, on one line that is not too long."""
    return _clipped(written(_plain(value)))


def _plain(value: Any) -> object:
    return Node(value=value).plain() if isinstance(value, dict | list) and _has_nodes(value) else value


def _clipped(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + "…"


def _has_nodes(value: dict[str, Any] | list[Any]) -> bool:
    parts = value.values() if isinstance(value, dict) else value
    return any(isinstance(part, Node) for part in parts)


def _or(words: Iterator[str]) -> str:
    return " or ".join(words)


def _first_sentence(schema: dict[str, Any]) -> str:
    return str(schema["description"]).split(". ")[0].rstrip(".")


def place_of(tree: Node, *path: str | int) -> Place | None:
    """Where a value stands; for a default, where the nearest section around it stands."""
    for end in range(len(path), -1, -1):
        node = tree.at(*path[:end])
        if node is not None and (node.place or node.key):
            return node.place if end == len(path) and node.place else node.key or node.place
    return None
