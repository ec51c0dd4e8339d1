"""specgen explain: what a code means, what a key takes, and which value a spec gives to it and where from."""

from __future__ import annotations

import difflib
import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from specgen.diagnostics import Diagnostic, Explanation, SpecError, explanations
from specgen.presets import preset_behind
from specgen.schema import Schema, keys, lookup
from specgen.secrets import masked
from specgen.source import Node
from specgen.validate import dotted, in_words, written

WIDTH = 100
MAX_VALUE = 60

Form = Literal["text", "json"]
Steps = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A value of a composed spec. `profile` and `preset` are those that it comes from; a default comes from no place."""

    path: Steps
    node: Node
    profile: str | None
    preset: str | None

    def shown(self) -> str:
        """The value as YAML has it, cut where it is long."""
        text = masked(written(self.node.plain()))
        return text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 3] + "..."

    def comes_from(self) -> str:
        """Where it was written, and the profile and preset that brought it."""
        ways = [str(self.node.place or "default"), self.profile and f"profile {self.profile}", self.preset and f"preset {self.preset}"]
        return ", ".join(way for way in ways if way)


def all_codes(form: Form) -> str:
    """Every code with its severity and title."""
    entries = list(explanations().values())
    if form == "json":
        return _as_json([asdict(entry) for entry in entries])
    lines = [f"{entry.code}  {entry.severity:<7}  {entry.title}" for entry in entries]
    return "\n".join([*lines, "", f"{len(lines)} codes; specgen explain CODE says why, with an example that fails and one that passes"])


def subject(what: str, form: Form) -> str:
    """A code, or a key of the spec. Raises SpecError where it is neither."""
    if entry := explanations().get(what.upper()):
        return _as_json(asdict(entry)) if form == "json" else _code(entry)
    schema = _schema_of(what)
    return _as_json(_key_as_json(what, schema)) if form == "json" else _key(what, schema, [])


def values(spec: Path, key: str | None, profile: str | None, settings: tuple[str, ...], form: Form) -> str:
    """What a spec gives to a key, or to every key of a section, and where that comes from. Raises SpecError."""
    from specgen.compiler import checked
    from specgen.extend import load

    tree = load(spec)
    overlay = tree.at("profiles", profile) if profile else None
    path = _steps(key) if key else ()
    schema = _schema_of(".".join(step for step in path if isinstance(step, str))) if path else None
    complete = checked(tree, profile, settings)
    node = _found(complete, path)
    found = [_value(leaf, child, complete, overlay, profile) for leaf, child in _leaves(node, path)]
    if form == "json":
        about = _key_as_json(dotted(list(path)), schema) if schema else {}
        return _as_json({**about, "values": [_value_as_json(value) for value in found]})
    if schema is None:
        return "\n".join(_table(found))
    if [value.path for value in found] == [path]:
        return _key(dotted(list(path)), schema, [("value", found[0].shown()), ("from", found[0].comes_from())])
    return _key(dotted(list(path)), schema, []) + "\n\n" + "\n".join(_table(found))


def _value(path: Steps, node: Node, tree: Node, overlay: Node | None, profile: str | None) -> Value:
    preset = preset_behind(tree, path, node.place)
    written = ("distributed", "preset") if preset else path
    return Value(path=path, node=node, profile=profile if _same_place(overlay, written, node) else None, preset=preset)


def _schema_of(key: str) -> Schema:
    schema = lookup(key)
    if schema is not None and "description" in schema:
        return schema
    near = difflib.get_close_matches(key, [*explanations(), *(name for name, _ in keys())], n=1)
    hint = f"did you mean '{near[0]}'?" if near else "give a code such as SG101, or a key such as train.learning_rate"
    raise SpecError(Diagnostic(code="SG111", message=f"{key} is neither a code nor a key of the spec", hint=hint))


def _steps(key: str) -> Steps:
    """`data.sources[0].file` as the steps that lead there."""
    parts = re.findall(r"\[(\d+)\]|([^.\[\]]+)", key)
    return tuple(int(index) if index else name for index, name in parts)


def _found(tree: Node, path: Steps) -> Node:
    """The node under a path. Raises SpecError where this spec has none there, although there could be one."""
    node = tree
    for depth, step in enumerate(path):
        inner = node.child(step) if isinstance(step, str) != isinstance(node.value, list) else None
        if inner is None:
            raise SpecError(_absent(node, list(path), depth))
        node = inner
    return node


def _absent(node: Node, path: list[str | int], depth: int) -> Diagnostic:
    owner, rest = dotted(path[:depth]) or "the spec", path[depth:]
    message = f"this spec has no {dotted(path)}: {owner} "
    if node.items:
        example = dotted([*path[:depth], 0, *(step for step in rest if isinstance(step, str))])
        ending, hint = f"is a list of {len(node.items)}", f"name one of them: {example}"
    elif node.children:
        ending, hint = f"has only {', '.join(node.children)}", None
    else:
        ending, hint = f"is {written(node.plain())}", None
    return Diagnostic(code="SG111", message=message + ending, place=node.key or node.place, hint=hint)


def _leaves(node: Node, path: Steps) -> Iterator[tuple[Steps, Node]]:
    """The single values below a node; lists of single values count as one."""
    if node.children:
        for key, child in node.children.items():
            yield from _leaves(child, (*path, key))
    elif any(item.children or item.items for item in node.items):
        for index, item in enumerate(node.items):
            yield from _leaves(item, (*path, index))
    else:
        yield path, node


def _same_place(overlay: Node | None, path: Steps, node: Node) -> bool:
    over = overlay.at(*path) if overlay else None
    return over is not None and over.place is not None and over.place == node.place


def _code(entry: Explanation) -> str:
    why = textwrap.fill(entry.why.strip(), WIDTH, break_on_hyphens=False)
    return (
        f"{entry.code}  {entry.severity}: {entry.title}\n\n{why}\n\n"
        f"wrong:\n{textwrap.indent(entry.wrong.rstrip(), '    ')}\n\nright:\n{textwrap.indent(entry.right.rstrip(), '    ')}"
    )


def _key(name: str, schema: Schema, found: list[tuple[str, str]]) -> str:
    rows = [*found, ("takes", in_words(schema))]
    if "default" in schema:
        rows.append(("default", written(schema["default"])))
    if "properties" in schema:
        rows.append(("keys", ", ".join(schema["properties"])))
    rows.append(("example", f"{name.rpartition('.')[2]}: {written(schema['examples'][0])}"))
    lines = [f"  {word:<8} {text}" for word, text in rows]
    return "\n".join([name, "", textwrap.fill(schema["description"], WIDTH, break_on_hyphens=False), "", *lines])


def _table(found: list[Value]) -> Iterator[str]:
    names = [dotted(list(value.path)) for value in found]
    name_width, value_width = max(map(len, names)), max(len(value.shown()) for value in found)
    for name, value in zip(names, found, strict=True):
        yield f"{name:<{name_width}}  {value.shown():<{value_width}}  {value.comes_from()}"


def _key_as_json(name: str, schema: Schema) -> dict[str, Any]:
    """What the schema says of a key itself, without the keys below it."""
    return {"key": name, **{word: said for word, said in schema.items() if word not in ("properties", "items", "additionalProperties")}}


def _value_as_json(value: Value) -> dict[str, Any]:
    place = value.node.place
    told = {"key": dotted(list(value.path)), "value": value.node.plain(), **({"preset": value.preset} if value.preset else {})}
    if place is None:
        return {**told, "origin": "default"}
    if place.is_flag:
        return {**told, "origin": "flag", "flag": place.file}
    layer = {"origin": "profile", "profile": value.profile} if value.profile else {"origin": "spec"}
    return {**told, **layer, "file": place.file, "line": place.line, "column": place.column}


def _as_json(value: object) -> str:
    return masked(json.dumps(value, ensure_ascii=False, indent=2))
