"""YAML text → a tree that knows where every key and value stands.

Scalars are read as YAML 1.2 reads them, with the strict numbers of its JSON schema: `no`, `010`, `12:30` and `2024-01-02`
are text, `1e-4` is a number. Merge keys (`<<`) are followed, because people share sections with them. Duplicate keys,
tags and everything that is not finite are refused.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from specgen.diagnostics import Diagnostic, Place, SpecError
from specgen.reading import regular

Scalar = str | int | float | bool | None

MAX_NODES = 100_000
MAX_DEPTH = 60
MAX_BYTES = 4_000_000

_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
PLAIN = "plain"  # the tag that our loader gives to a scalar without quotes and without a tag of its own
_PLAIN_TAGS = {PLAIN, "!", "tag:yaml.org,2002:str", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A value, the place where it stands and the place of the key that leads to it. Defaults stand nowhere."""

    value: Scalar | dict[str, Node] | list[Node]
    place: Place | None = None
    key: Place | None = None
    raw: str | None = None  # a plain scalar as it was written

    @property
    def children(self) -> dict[str, Node]:
        """The keys of a mapping; none of anything else."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> list[Node]:
        """The items of a list; none of anything else."""
        return self.value if isinstance(self.value, list) else []

    def child(self, step: str | int) -> Node | None:
        """The node under one key or index, or None."""
        if isinstance(step, str):
            return self.children.get(step)
        return self.items[step] if step < len(self.items) else None

    def at(self, *path: str | int) -> Node | None:
        """The node under a path of keys and indices, or None."""
        node: Node | None = self
        for step in path:
            if node is None:
                return None
            node = node.child(step)
        return node

    def text(self, *path: str) -> str:
        """The text under a path of a complete tree."""
        node = self.at(*path)
        assert node is not None and isinstance(node.value, str), path
        return node.value

    def number(self, *path: str) -> int:
        """The whole number under a path of a complete tree."""
        node = self.at(*path)
        assert node is not None and isinstance(node.value, int), path
        return node.value

    def real(self, *path: str) -> float:
        """The number under a path of a complete tree."""
        node = self.at(*path)
        assert node is not None and isinstance(node.value, int | float), path
        return node.value

    def plain(self) -> object:
        """The same as ordinary dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        return self.value


def read(path: Path) -> str:
    """The text of a spec file. Raises SpecError where it cannot be read as UTF-8 text."""
    place = Place(file=str(path), line=1, column=1)
    try:
        if path.is_dir():
            hint = "name the spec file in it, such as " + str(path / "assistant.yaml")
            raise SpecError(Diagnostic(code="SG001", message=f"{path} is a folder, not a spec file", hint=hint))
        if path.stat().st_size > MAX_BYTES:
            raise SpecError(Diagnostic(code="SG008", message=f"the file is larger than {MAX_BYTES:,} bytes", place=place))
        return regular(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError(
            Diagnostic(
                code="SG002", message=f"not UTF-8 text: byte {error.start} cannot be read", place=place, hint="save the file as UTF-8"
            )
        ) from None
    except FileNotFoundError:
        hint = "check the path; specgen list shows the specs that come along"
        raise SpecError(Diagnostic(code="SG001", message=f"{path} does not exist", hint=hint)) from None
    except OSError as error:
        raise SpecError(Diagnostic(code="SG001", message=f"{path} cannot be read: {error.strerror}")) from None


def parse(text: str, file: str) -> Node:
    """Parses a spec. `file` is how diagnostics name it. Raises SpecError with all faults that the text has."""
    try:
        _refuse_endless(text, file)
        root = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise SpecError(_syntax_fault(error, text, file)) from None
    except RecursionError:
        place = Place(file=file, line=1, column=1)
        raise SpecError(Diagnostic(code="SG008", message="nested too deeply to be read", place=place)) from None
    if root is None:
        raise SpecError(
            Diagnostic(
                code="SG006", message="the spec is empty", place=Place(file=file, line=1, column=1), hint="start from specs/assistant.yaml"
            )
        )
    reader = _Reader(file)
    node = reader.node(root, depth=0)
    if not isinstance(node.value, dict):
        reader.fault("SG007", root, "a spec is a mapping of keys to values", hint="the first line is 'specgen: 1'")
    if reader.faults:
        raise SpecError(*reader.faults)
    return node


def _refuse_endless(text: str, file: str) -> None:
    """Refuses a text of too many values before they are all in memory."""
    if sum(map(text.count, ",\n:")) <= MAX_NODES:
        return
    events = itertools.islice(yaml.parse(text, Loader=yaml.CSafeLoader), 3 * MAX_NODES)
    values = sum(isinstance(event, yaml.ScalarEvent | yaml.AliasEvent) for event in events)
    if values > MAX_NODES:
        place = Place(file=file, line=1, column=1)
        raise SpecError(Diagnostic(code="SG008", message=f"more than {MAX_NODES:,} values", place=place))


def parse_scalar(text: str, place: Place) -> Node:
    """One value as it would be read behind a key; for `--set`."""
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or "not YAML"
        raise SpecError(Diagnostic(code="SG003", message=f"the value is not YAML: {problem}", place=place)) from None
    if root is None:
        return Node(value=None, place=place, raw="")
    reader = _Reader(place.file, fixed=place)
    node = reader.node(root, depth=0)
    if reader.faults:
        raise SpecError(*reader.faults)
    return node


def scalar(text: str) -> Scalar:
    """A plain scalar's value. Numbers that are not finite stay text."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text) and len(text) < 100:
        return int(text)
    if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text


class _Loader(yaml.CSafeLoader):
    """Composes only. A plain scalar gets a tag of ours instead of a type by YAML 1.1's rules."""

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        if kind is yaml.ScalarNode:
            return PLAIN if implicit[0] else "tag:yaml.org,2002:str"
        return "tag:yaml.org,2002:seq" if kind is yaml.SequenceNode else "tag:yaml.org,2002:map"


@dataclass(slots=True)
class _Reader:
    file: str
    fixed: Place | None = None
    faults: list[Diagnostic] = field(default_factory=list)
    seen: int = 0
    full: bool = False

    def node(self, source: yaml.Node, *, depth: int, key: Place | None = None) -> Node:
        self.seen += 1
        if self.seen > MAX_NODES or depth > MAX_DEPTH:
            if not self.full:
                what = f"more than {MAX_NODES:,} values" if self.seen > MAX_NODES else f"nested deeper than {MAX_DEPTH}"
                self.fault("SG008", source, f"{what}; aliases that contain aliases grow quickly")
            self.full = True
        place = self.place(source)
        if self.full:
            return Node(value=None, place=place, key=key)
        if source.tag not in _PLAIN_TAGS:
            tag = source.tag.replace("tag:yaml.org,2002:", "!!")
            self.fault("SG008", source, f"the tag {tag} is not allowed", hint="write the value without it")
        if isinstance(source, yaml.MappingNode):
            return Node(value=self.mapping(source, depth), place=place, key=key)
        if isinstance(source, yaml.SequenceNode):
            return Node(value=[self.node(item, depth=depth + 1) for item in source.value], place=place, key=key)
        if source.tag == PLAIN:
            return Node(value=scalar(source.value), place=place, key=key, raw=source.value)
        return Node(value=source.value, place=place, key=key)

    def mapping(self, source: yaml.MappingNode, depth: int) -> dict[str, Node]:
        own: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        for key_node, value_node in source.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.fault("SG009", key_node, "a key is text, not a list or a mapping")
                continue
            name = key_node.value
            if name == "<<" and not key_node.style:
                merged = {**self.merge(value_node, depth), **merged}
                continue
            key = self.place(key_node)
            if name in own:
                self.twice(name, key, own[name].key)
                continue
            own[name] = self.node(value_node, depth=depth + 1, key=key)
        return {**merged, **own}

    def merge(self, source: yaml.Node, depth: int) -> dict[str, Node]:
        parts = source.value if isinstance(source, yaml.SequenceNode) else [source]
        merged: dict[str, Node] = {}
        for part in parts:
            if not isinstance(part, yaml.MappingNode):
                self.fault("SG009", source, "'<<' takes a mapping, or a list of mappings")
                continue
            merged = {**self.node(part, depth=depth + 1).children, **merged}
        return merged

    def place(self, source: yaml.Node) -> Place:
        if self.fixed:
            return self.fixed
        start, end = source.start_mark, source.end_mark
        width = end.column - start.column if end.line == start.line else 1
        return Place(file=self.file, line=start.line + 1, column=start.column + 1, width=max(1, width))

    def twice(self, name: str, second: Place, first: Place | None) -> None:
        related = ((first, "the first is here"),) if first else ()
        message = f"the key '{name}' is here twice"
        self.faults.append(Diagnostic(code="SG005", message=message, place=second, related=related, hint="keep one of the two"))

    def fault(self, code: str, source: yaml.Node, message: str, hint: str | None = None) -> None:
        self.faults.append(Diagnostic(code=code, message=message, place=self.place(source), hint=hint))


def _syntax_fault(error: yaml.YAMLError, text: str, file: str) -> Diagnostic:
    mark = getattr(error, "problem_mark", None)
    place = Place(file=file, line=mark.line + 1 if mark else 1, column=mark.column + 1 if mark else 1)
    lines = text.splitlines()
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    indent = line[: len(line) - len(line.lstrip())]
    if "\t" in indent:
        tab = Place(file=file, line=place.line, column=indent.index("\t") + 1)
        return Diagnostic(
            code="SG004",
            message="a tab in the indentation; YAML allows only spaces there",
            place=tab,
            hint="replace the tab with two spaces",
        )
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
    context = getattr(error, "context", None)
    return Diagnostic(
        code="SG003",
        message=f"not YAML: {problem}" + (f" ({context})" if context else ""),
        place=place,
        hint="text that holds ': ', '#', '{' or '[' goes in quotes",
    )
