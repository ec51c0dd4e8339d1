"""Secrets have no place in a file that is committed."""

from __future__ import annotations

from collections.abc import Iterator

from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts
from specgen.secrets import kind_of
from specgen.source import Node


def nothing_is_secret(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """No text of the spec looks like a key or a token. It is never printed."""
    for node in _texts(tree):
        kind = kind_of(str(node.value))
        if kind and node.place:
            yield Diagnostic(
                code="SG500",
                message=f"this looks like {kind}; a spec is committed, and so is what it compiles to",
                place=node.place,
                hint="take it out, and make a new one; tokens are read from the environment (HF_TOKEN)",
            )


def _texts(node: Node) -> Iterator[Node]:
    if isinstance(node.value, str):
        yield node
    for child in [*node.children.values(), *node.items]:
        yield from _texts(child)
