"""Puts the keys of a spec in the order of the schema. Every line stays as it was written; comments go with their key.

Keys are moved as whole lines, so that nothing of how a value is written can change; the result is parsed and compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import yaml

from specgen.diagnostics import SpecError
from specgen.schema import Schema, child, is_variant, spec_schema
from specgen.source import parse

Lines = list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One key of a mapping: its lines from `start`, where the comments above it begin, up to `end`; the key is on `line`."""

    name: str
    start: int
    line: int
    end: int
    value: yaml.Node
    schema: Schema | None


def formatted(text: str, file: str) -> str:
    """The spec in the order of the schema. Raises SpecError where it cannot be parsed."""
    before = parse(text, file).plain()
    root = yaml.compose(text, Loader=yaml.CSafeLoader)
    assert root is not None, file
    lines = text.rstrip("\n").split("\n")
    if not _has_anchors(text) and "\t" not in text and "\r" not in text:
        lines = _ordered(root, lines, 0, len(lines), spec_schema(), top=True)
    for result in (_tidied(lines), "\n".join(lines)):
        if _means(result, file) == before:
            return result
    return text


def _means(text: str, file: str) -> object:
    try:
        return parse(text, file).plain()
    except SpecError:
        return None


def _has_anchors(text: str) -> bool:
    """An alias may not come before its anchor: such a spec keeps its order."""
    return any(isinstance(token, yaml.AnchorToken | yaml.AliasToken) for token in yaml.scan(text, Loader=yaml.CSafeLoader))


def _ordered(node: yaml.Node, lines: Lines, start: int, end: int, schema: Schema | None, *, top: bool = False) -> Lines:
    """The lines `start` to `end`, which hold the node, with its keys and all below them in order."""
    if isinstance(node, yaml.SequenceNode) and not node.flow_style:
        return _items(node, lines, start, end, schema)
    if not isinstance(node, yaml.MappingNode) or node.flow_style or not node.value:
        return lines[start:end]
    first = node.value[0][0].start_mark.line
    head = first if top else start
    entries = _entries(node, lines, head, end, schema)
    blocks = [_block(entry, lines) for entry in entries]
    prefix = lines[first][: node.start_mark.column]
    order = sorted(range(len(entries)), key=lambda index: _rank(entries[index].name, schema, index))
    if prefix.strip() and order[0] != 0:  # the first key stands behind the dash of a list item
        if _comment(blocks[order[0]][0]):
            return lines[start:head] + [line for block in blocks for line in block]
        blocks[0][0] = " " * len(prefix) + blocks[0][0][len(prefix) :]
        blocks[order[0]][0] = prefix + blocks[order[0]][0][len(prefix) :]
    if top and order[0] != 0 and not blocks[1][0].strip():
        blocks[0] = ["", *blocks[0]]  # sections that stand apart go on doing so
    while not top and blocks[order[0]] and not blocks[order[0]][0].strip():
        del blocks[order[0]][0]
    return lines[start:head] + [line for index in order for line in blocks[index]]


def _block(entry: Entry, lines: Lines) -> Lines:
    """The lines of one key, with what is below it in order."""
    if entry.value.start_mark.line == entry.line:
        return lines[entry.start : entry.end]
    below = entry.line + 1
    return lines[entry.start : below] + _ordered(entry.value, lines, below, entry.end, entry.schema)


def _entries(node: yaml.MappingNode, lines: Lines, start: int, end: int, schema: Schema | None) -> list[Entry]:
    starts = []
    content_end = start
    for key, value in node.value:
        starts.append(_comments_above(lines, content_end, key.start_mark.line, key.start_mark.column))
        content_end = max(key.start_mark.line, _last_line(value)) + 1
    starts[0] = start
    ends = [*starts[1:], end]
    return [
        Entry(
            name=key.value,
            start=begin,
            line=key.start_mark.line,
            end=stop,
            value=value,
            schema=None if schema is None else child(schema, key.value),
        )
        for (key, value), begin, stop in zip(node.value, starts, ends, strict=True)
    ]


def _items(node: yaml.SequenceNode, lines: Lines, start: int, end: int, schema: Schema | None) -> Lines:
    bounds = [item.start_mark.line for item in node.value]
    result = lines[start : bounds[0]] if bounds else lines[start:end]
    for item, begin, stop in zip(node.value, bounds, [*bounds[1:], end], strict=True):
        result += _ordered(item, lines, begin, stop, schema and schema.get("items"))
    return result


def _comments_above(lines: Lines, content_end: int, key_line: int, column: int) -> int:
    """The first line of the comments that belong to a key: those of its own depth, and blank lines before them."""
    line = key_line
    while line > content_end and (not lines[line - 1].strip() or _indent(lines[line - 1]) == column):
        line -= 1
    return line


def _rank(name: str, schema: Schema | None, index: int) -> tuple[int, int]:
    """The schema's order; keys of the user's own (x-…, variables, profiles) stay in theirs, at the end."""
    known = list((schema or {}).get("properties", {}))
    if schema is None or is_variant(schema) or name not in known:
        return (len(known), index)
    return (known.index(name), index)


def _last_line(node: yaml.Node) -> int:
    """The last line of a node's own content, without the comments behind it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _last_line(last[1] if isinstance(last, tuple) else last)
    mark = node.end_mark
    return int(mark.line - 1 if mark.column == 0 and mark.line > node.start_mark.line else mark.line)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _comment(line: str) -> bool:
    return line.lstrip().startswith("#") or not line.strip()


def _tidied(lines: Iterable[str]) -> str:
    """At most one blank line in a row, none at either end, and a line break at the end."""
    kept: Lines = []
    for line in lines:
        if line.strip() or (kept and kept[-1].strip()):
            kept.append(line.rstrip())
    while kept and not kept[-1]:
        kept.pop()
    return "\n".join(kept) + "\n"
