"""Rules about what the smoke test expects beyond texts and expressions: JSON, likeness, refusals, time."""

from __future__ import annotations

from collections.abc import Iterator

from conversations.similarity import nearest, words
from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts
from specgen.rules.json_schema import schema_faults
from specgen.rules.template import learns_text
from specgen.source import Node


def turns_of(tree: Node) -> Iterator[Node]:
    """Every question of the smoke test with its expectation, those that follow others among them."""
    for item in tree.children["smoke"].items:
        yield item
        yield from item.children["then"].items


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


def likeness_follows_the_rows(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Where the rows answer the very question, their answers say whether the likeness can be had."""
    for item in tree.children["smoke"].items:
        answers = facts.survey.answers.get(item.text("user"), ())
        similar = item.children["expect"].children["similar"]
        if not answers or not similar.children or learns_text(tree):
            continue
        to, least = similar.children["to"], similar.real("at_least")
        texts = [str(node.value) for node in to.items or [to]]
        likeness = max(nearest(answer, texts) for answer in answers)
        if likeness < least:
            yield Diagnostic(
                code="SG526",
                severity="warning",
                message=f"the rows answer this question otherwise: {answers[0][:60]!r} has a likeness of {likeness:.2f}",
                place=to.place or to.key,
                hint="expect what is trained, or train what is expected",
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
