"""Values as YAML, JSON, shell words and Markdown cells. No value can change the meaning of the file around it."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Sequence
from typing import Any

from specgen.plan import to_plain

_NOT_IN_COMMENTS = re.compile(r"[^A-Za-z0-9._ -]")


def scalar(value: object) -> str:
    """A YAML scalar that YAML 1.1 and 1.2 read alike: text in double quotes, numbers with a point before an exponent."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        assert math.isfinite(value), value
        mantissa, e, exponent = repr(value).partition("e")
        return mantissa + (".0" if e and "." not in mantissa else "") + e + exponent
    assert isinstance(value, str), type(value)
    return quoted(value)


def quoted(text: str) -> str:
    """Double-quoted YAML text on one line. Everything that is not plainly printable is escaped."""
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character == "\n":
        return "\\n"
    if character == " " or character.isprintable():
        return character
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def block(value: object, indent: int) -> str:
    """A plan, or a part of one, in YAML's block style, to stand at this indent. The first line is not indented."""
    lines = list(_lines(to_plain(value)))
    return ("\n" + " " * indent).join(lines)


def _lines(value: Any) -> list[str]:
    if isinstance(value, dict) and value:
        return [line for key, item in value.items() for line in _entry(f"{_key(key)}:", item)]
    if isinstance(value, list) and value:
        return [line for item in value for line in _item(item)]
    return ["{}" if isinstance(value, dict) else "[]" if isinstance(value, list) else scalar(value)]


def _entry(head: str, value: Any) -> list[str]:
    if isinstance(value, str) and (literal := _literal(value)):
        style, *lines = literal
        return [f"{head} {style}", *(f"  {line}" if line else "" for line in lines)]
    lines = _lines(value)
    if isinstance(value, dict | list) and value:
        return [head, *(f"  {line}" for line in lines)]
    return [f"{head} {lines[0]}"]


def _item(value: Any) -> list[str]:
    if isinstance(value, str) and (literal := _literal(value)):
        style, *lines = literal
        return [f"- {style}", *(f"  {line}" if line else "" for line in lines)]
    first, *rest = _lines(value)
    return [f"- {first}", *(f"  {line}" for line in rest)]


def _literal(text: str) -> list[str] | None:
    """Text of several printable lines as a literal block: its header and its lines; None where quotes are safer."""
    if "\n" not in text.strip("\n") or text.startswith("\n") or text.endswith("\n\n"):
        return None
    lines = text.removesuffix("\n").split("\n")
    if any(not line.isprintable() for line in lines) or any(line != line.rstrip() for line in lines):
        return None
    return ["|2" if text.endswith("\n") else "|2-", *lines]


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key) and key.lower() not in _WORDS else quoted(key)


_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


def as_json(value: object) -> str:
    """A JSON value on one line."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def shell(text: str) -> str:
    """One word of a shell command."""
    return shlex.quote(text)


def cell(text: object) -> str:
    """Text inside a Markdown table or heading."""
    return re.sub(r"([\\|`*_<>\[\]])", r"\\\1", str(text)).replace("\r", " ").replace("\n", " ")


def count(number: int | None) -> str:
    """A number for people, or that it is not known."""
    return "unknown" if number is None else f"{number:,}"


def bars(numbers: Sequence[int]) -> str:
    """Numbers as a row of bars, the highest for the largest; none for zero."""
    most = max(numbers)
    return "".join("▁▂▃▄▅▆▇█"[max(0, math.ceil(8 * number / most) - 1)] if number else "·" for number in numbers)


def comment(text: str) -> str:
    """Text inside a comment."""
    return _NOT_IN_COMMENTS.sub("?", text)
