"""Plain values as dataclasses, strictly: no key more or less but those with a default, no number for text."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any


def build(kind: Any, value: Any, path: str) -> Any:
    """A value of a type. Raises TypeError or ValueError that names the place, such as `base.files[0].size`."""
    if kind is Any:
        return value
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return None if value is None and type(None) in arguments else build(_choice(arguments, value), value, path)
    if origin is typing.Literal:
        if value not in arguments:
            raise ValueError(f"{path} is {value!r}")
        return value
    if origin is tuple:
        _require(isinstance(value, list), path, "a list")
        return tuple(build(arguments[0], item, f"{path}[{index}]") for index, item in enumerate(value))
    if origin is dict:
        _require(isinstance(value, dict), path, "a mapping")
        return {key: build(arguments[1], item, f"{path}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(kind):
        return _build_class(kind, value, path)
    _require(
        isinstance(value, kind) and (kind is bool or not isinstance(value, bool)), path, {str: "text", int: "a number"}.get(kind, "that")
    )
    return value


def _build_class(kind: Any, value: Any, path: str) -> Any:
    if tag := getattr(kind, "TAG", None):
        _require(isinstance(value, dict) and list(value) == [tag], path, f"a mapping with the key {tag}")
        value, path = value[tag], f"{path}.{tag}"
    _require(isinstance(value, dict), path or "the file", "a mapping")
    hints = typing.get_type_hints(kind)
    start = f"{path}." if path else ""
    given = {field.name for field in dataclasses.fields(kind) if field.default is not dataclasses.MISSING}
    for name in sorted(hints.keys() - {"TAG"} - value.keys() - given):
        raise ValueError(f"{start}{name} is missing")
    for name in sorted(value.keys() - hints.keys()):
        raise ValueError(f"{start}{name} is not known")
    names = [field.name for field in dataclasses.fields(kind) if field.name in value]
    return kind(**{name: build(hints[name], value[name], f"{start}{name}") for name in names})


def _choice(kinds: tuple[Any, ...], value: Any) -> Any:
    """The class whose tag a mapping has, or the first kind that the value is of; where there is none the first of all."""
    kinds = tuple(kind for kind in kinds if kind is not type(None))
    tags = value if isinstance(value, dict) else {}
    tagged = (kind for kind in kinds if getattr(kind, "TAG", None) in tags)
    return next(tagged, next((kind for kind in kinds if _is_of(kind, value)), kinds[0]))


def _is_of(kind: Any, value: Any) -> bool:
    origin = typing.get_origin(kind)
    if origin is typing.Literal:
        return value in typing.get_args(kind)
    if origin in (tuple, dict):
        return isinstance(value, list if origin is tuple else dict)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _require(holds: bool, path: str, what: str) -> None:
    if not holds:
        raise TypeError(f"{path} has to be {what}")
