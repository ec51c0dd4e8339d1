"""Settings that go to a library by its own names: are they known to it, and of the kind that it reads?"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping

from specgen.diagnostics import Diagnostic
from specgen.optimizers import Kind
from specgen.source import Node

WORDS = {int: "a whole number", float: "a number", bool: "true or false"}


def unlike(given: Node, takes: Mapping[str, Kind], *, code: str, path: str, reader: str) -> Iterator[Diagnostic]:
    """What of a mapping the reader does not know, or takes in another form."""
    for name, node in given.children.items():
        kind = takes.get(name)
        if kind is None:
            message = f"{reader} knows no {name}"
            yield Diagnostic(code=code, message=message, place=node.key or node.place, hint=_known(name, takes, path))
        elif not _is(node.value, kind):
            wanted = f"one of {', '.join(kind)}" if isinstance(kind, tuple) else WORDS[kind]
            yield Diagnostic(code=code, message=f"{path}.{name} of {reader} is {wanted}", place=node.place)


def _is(value: object, kind: Kind) -> bool:
    if isinstance(kind, tuple):
        return value in kind
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    return isinstance(value, int) if kind is int else isinstance(value, int | float)


def _known(name: str, takes: Mapping[str, Kind], path: str) -> str:
    if not takes:
        return f"it has no settings: leave {path} out"
    near = difflib.get_close_matches(name, takes, n=1)
    return (f"did you mean '{near[0]}'? " if near else "") + f"it reads {', '.join(takes)}"
