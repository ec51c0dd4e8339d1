"""Rules about chat settings and the smoke test."""

from __future__ import annotations

import re
from collections.abc import Iterator

from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts
from specgen.source import Node


def expressions_compile(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """smoke[].expect.matches holds regular expressions."""
    for item in tree.children["smoke"].items:
        for node in item.children["expect"].children["matches"].items:
            try:
                re.compile(str(node.value))
            except (re.error, RecursionError, OverflowError) as error:
                yield Diagnostic(
                    code="SG271",
                    message=f"the regular expression {node.value} is not valid: {error}",
                    place=node.place,
                    hint="a backslash needs single quotes around the text: '\\w+'",
                )


def expectations_ask_something(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """An expectation that holds for every answer proves nothing."""
    for item in tree.children["smoke"].items:
        expect = item.children["expect"]
        if expect.children["stops"].value is False and not any(
            expect.children[key].items for key in ("contains", "not_contains", "matches")
        ):
            yield Diagnostic(
                code="SG272",
                message="this expectation holds for every answer",
                place=expect.place or expect.key,
                hint="add contains: [TEXT]",
            )
