"""Rules about the smoke test: its questions, and whether an answer can meet what is expected of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from conversations.similarity import words
from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts
from specgen.modules import NOT_REGULAR
from specgen.rules.json_schema import schema_faults
from specgen.rules.template import learns_text
from specgen.source import Node

# of a regular expression: what is bound to no place in the text, whose signs in it mean themselves; and what is bound to one
UNBOUND = re.compile(r"\\[^AZbB]|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
BOUND = re.compile(r"\\[AZbB]|\(\?<?[=!]|[\^$]")


def turns_of(tree: Node) -> Iterator[Node]:
    """Every question of the smoke test with its expectation, those that follow others among them."""
    for item in tree.children["smoke"].items:
        yield item
        yield from item.children["then"].items


def questions_are_asked_once(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """With the same seed the same question has the same answer."""
    first: dict[tuple[object, ...], Node] = {}
    for item in tree.children["smoke"].items:
        node = item.children["user"]
        later = tuple(turn.text("user") for turn in item.children["then"].items)
        before = first.setdefault((node.value, item.children["image"].value, *later), node)
        if before is not node:
            yield Diagnostic(
                code="SG507",
                severity="warning",
                message=f"the smoke test asks {_quoted(str(node.value))} twice",
                place=node.place,
                related=((before.place, "the first time"),) if before.place else (),
                hint="one question can have several expectations",
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


def expected_texts_can_occur(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """What a smoke test asks for must be able to be in an answer."""
    stops = [str(node.value) for node in tree.children["chat"].children["stop"].items]
    most = tree.number("chat", "max_new_tokens")
    for item in turns_of(tree):
        expect = item.children["expect"].children
        for node in expect["contains"].items:
            text = str(node.value)
            forbidden = next((other for other in expect["not_contains"].items if str(other.value) in text), None)
            stop = next((stop for stop in stops if stop in text), None)
            if forbidden is not None:
                yield Diagnostic(
                    code="SG505",
                    message=f"{_quoted(text)} has to be in the answer, and {_quoted(str(forbidden.value))} must not be",
                    place=node.place,
                    related=((forbidden.place, "not_contains has it here"),) if forbidden.place else (),
                    hint="no answer passes: keep one of the two",
                )
            elif stop is not None:
                yield Diagnostic(
                    code="SG505",
                    message=f"{_quoted(text)} has to be in the answer, which ends before the stop text {_quoted(stop)}",
                    place=node.place,
                    hint="no answer passes: change chat.stop, or what is expected",
                )
            elif len(text.split()) > most:
                yield Diagnostic(
                    code="SG505",
                    message=f"a text of {len(text.split())} words has to be in the answer, and chat.max_new_tokens is {most}",
                    place=node.place,
                    hint="no answer passes: raise chat.max_new_tokens",
                )


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


def expressions_ask_something(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """An expression that matches the empty text, wherever that is, matches in every answer."""
    for item in turns_of(tree):
        for node in item.children["expect"].children["matches"].items:
            try:
                matches_nothing = re.compile(str(node.value)).search("") is not None
            except NOT_REGULAR:
                continue
            if matches_nothing and not BOUND.search(UNBOUND.sub("", str(node.value))):
                yield Diagnostic(
                    code="SG506",
                    message=f"the regular expression {node.value} is found in every answer",
                    place=node.place,
                    hint="write what the answer has to have, for example '\\d+'",
                )


def the_schema_of_an_answer_is_one(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A JSON Schema with a mistake accepts nothing, or anything."""
    for turn in turns_of(tree):
        yield from schema_faults(turn.children["expect"].children["json"], "json", "SG686")


def texts_can_be_alike(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Nothing is like a text without a word, and everything is at least not unlike."""
    for turn in turns_of(tree):
        similar = turn.children["expect"].children["similar"]
        if not similar.children:
            continue
        to = similar.children["to"]
        for node in to.items or [to]:
            if not words(str(node.value)):
                yield Diagnostic(
                    code="SG687",
                    message="similar.to has no word: no answer is like it",
                    place=node.place or node.key,
                    hint="write what the answer is to be like",
                )
        if similar.real("at_least") == 0:
            yield Diagnostic(
                code="SG687",
                message="every answer has a likeness of at least 0",
                place=similar.children["at_least"].place,
                hint="at_least: 0.7, or leave it out",
            )


def likeness_is_in_reach(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A token is at most one word of a script with spaces: a short answer to a long text is unlike it."""
    most = tree.number("chat", "max_new_tokens")
    for turn in turns_of(tree):
        similar = turn.children["expect"].children["similar"]
        if not similar.children:
            continue
        to, least = similar.children["to"], similar.real("at_least")
        lengths = [len(str(node.value).split()) for node in to.items or [to]]
        reach = max(1.0 if length <= most else 2 * most / (most + length) for length in lengths)
        if reach < least:
            yield Diagnostic(
                code="SG688",
                message=f"the answer has to be like a text of {min(lengths)} words, and chat.max_new_tokens is {most}:"
                f" its likeness is at most {reach:.2f}",
                place=to.place or to.key,
                hint="no answer passes: raise chat.max_new_tokens",
            )


def refusals_are_looked_for(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Texts of a refusal are read where an expectation asks for one, or forbids it."""
    for turn in turns_of(tree):
        expect = turn.children["expect"].children
        refusals = expect["refusals"]
        if refusals.items and expect["refuses"].value is None:
            yield Diagnostic(
                code="SG688",
                message="refusals is given, and nothing says whether the answer has to refuse",
                place=refusals.key or refusals.place,
                hint="write refuses: true, or refuses: false",
            )


def time_is_of_a_machine(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A limit in seconds that holds on one machine is missed on another."""
    if tree.text("hardware", "device") != "auto":
        return
    limits = [turn.children["expect"].children["within_seconds"] for turn in turns_of(tree)]
    given = [node for node in limits if node.value is not None]
    if given:
        yield Diagnostic(
            code="SG689",
            severity="note",
            message="within_seconds is of the machine that runs the smoke test, and the spec does not say which that is",
            place=given[0].place,
            hint="hardware: {device: cuda} says which it is meant for",
        )


def text_models_do_not_stop(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Continued pretraining teaches no end of turn: an answer goes on until it is cut. Where nobody asks for an end, none is expected."""
    if not learns_text(tree):
        return
    for item in turns_of(tree):
        stops = item.children["expect"].children["stops"]
        if stops.value is True and stops.place:
            yield Diagnostic(
                code="SG509",
                severity="warning",
                message="the answer has to stop by itself, and train.objective: text teaches no end of turn",
                place=stops.place,
                hint="leave stops out",
            )


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
