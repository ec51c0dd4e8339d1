"""Rules about chat settings and the smoke test."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts
from specgen.modules import NOT_REGULAR
from specgen.rules.smoke import turns_of
from specgen.rules.template import learns_text
from specgen.source import Node
from specgen.validate import place_of

GREEDY_LEFTOVERS = ("temperature", "top_k", "top_p", "min_p", "typical_p")


def expressions_compile(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """smoke[].expect.matches holds regular expressions."""
    for item in turns_of(tree):
        for node in item.children["expect"].children["matches"].items:
            try:
                re.compile(str(node.value))
            except NOT_REGULAR as error:
                yield Diagnostic(
                    code="SG271",
                    message=f"the regular expression {node.value} is not valid: {error}",
                    place=node.place,
                    hint="a backslash needs single quotes around the text: '\\w+'",
                )


def expectations_ask_something(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """An expectation that holds for every answer proves nothing."""
    for item in turns_of(tree):
        expect = item.children["expect"]
        asked = {key: node.value for key, node in expect.children.items()}
        waits = asked["stops"] is not False and (expect.children["stops"].place is not None or not learns_text(tree))
        asks_more = asked["json"] is not False or any(asked[key] is not None for key in ("similar", "refuses", "within_seconds"))
        if not waits and not asks_more and not any(asked[key] for key in ("contains", "not_contains", "matches")):
            yield Diagnostic(
                code="SG272",
                message="this expectation holds for every answer",
                place=expect.place or expect.key,
                hint="add contains: [TEXT]",
            )


def the_base_generates_consistently(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Many published models carry sampling values beside do_sample: false; strict checks refuse to save those."""
    settings: dict[str, Any] = facts.model.tokenizer.generation if facts.model and facts.model.tokenizer else {}
    unused = [name for name in GREEDY_LEFTOVERS if settings.get(name) not in (None, 1.0, 50 if name == "top_k" else None)]
    if settings and not settings.get("do_sample", False) and unused:
        yield Diagnostic(
            code="SG523",
            severity="note",
            message=f"the base model's generation_config.json sets {', '.join(unused)} without do_sample; the export leaves that out",
            place=place_of(tree, "model", "base"),
            hint="the exported model generates as the section chat says",
        )


def stop_texts_can_be_said(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Control tokens are no text of an answer: generation stops on the end of turn anyway, and on others it could not."""
    controls = facts.model.tokenizer.controls if facts.model and facts.model.tokenizer else {}
    for node in tree.children["chat"].children["stop"].items:
        if node.value in controls:
            yield Diagnostic(
                code="SG524",
                severity="warning",
                message=f"{node.value} is a control token: it is no text of an answer, so this stop text never occurs",
                place=node.place,
                hint="leave it out; answers end at the template's end of turn by themselves",
            )


def system_texts_say_something(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """An empty text is not the same as none: templates write an empty system turn for it."""
    for section in ("data", "chat"):
        node = tree.children[section].children["system"]
        if isinstance(node.value, str) and not node.value.strip():
            yield Diagnostic(
                code="SG525",
                severity="note",
                message=f"{section}.system is empty: most templates then write a system turn with nothing in it",
                place=node.place,
                hint="null leaves the system turn to the template",
            )
