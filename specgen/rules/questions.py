"""Rules about what previews and the smoke test ask, held against what the rows say."""

from __future__ import annotations

from collections.abc import Iterator

from conversations.row import messages_of
from conversations.similarity import nearest
from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts
from specgen.facts.rowtable import MOST_TEXTS
from specgen.rules.template import learns_text
from specgen.source import Node


def questions_of_the_smoke_test_are_trained(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Questions beyond the data show what the model makes of them; that is worth knowing, and worth meaning."""
    if not facts.rows_at_hand or facts.survey.rows > MOST_TEXTS:
        return
    known = {message["content"] for row in facts.first_rows(MOST_TEXTS) for message in messages_of(row) if message["role"] == "user"}
    nodes = [item.children["user"] for item in tree.children["smoke"].items if item.children["image"].value is None]
    beyond = [node for node in nodes if node.value not in known]
    if beyond and known:
        yield Diagnostic(
            code="SG508",
            severity="note",
            message=f"{len(beyond)} of {len(nodes)} smoke questions are in no row: they test what the model does beyond its data",
            place=beyond[0].place,
        )


def questions_are_spelled_as_in_the_rows(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A question that differs from a row's in case and punctuation only is mostly meant to be that one."""
    prompts = tree.at("train", "preview", "prompts")
    asked = [item.children["user"] for item in tree.children["smoke"].items]
    for node in [*(prompts.items if prompts else ()), *asked]:
        other = facts.survey.alike.get(str(node.value))
        if other is not None:
            yield Diagnostic(
                code="SG520",
                severity="note",
                message=f"no row asks this; one asks {other!r}",
                place=node.place,
                hint="ask as the rows do, unless the difference is meant",
            )


def expectations_follow_the_rows(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Where the rows answer the very question, the answers say whether the expectation can hold."""
    for item in tree.children["smoke"].items:
        answers = facts.survey.answers.get(item.text("user"), ())
        if not answers or learns_text(tree):
            continue
        expect = item.children["expect"].children
        against = [node for node in expect["contains"].items if not any(str(node.value) in answer for answer in answers)]
        against += [node for node in expect["not_contains"].items if all(str(node.value) in answer for answer in answers)]
        for node in against:
            yield Diagnostic(
                code="SG526",
                severity="warning",
                message=f"the rows answer this question otherwise: {_cut(answers[0])!r}",
                place=node.place,
                hint="expect what is trained, or train what is expected",
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
                message=f"the rows answer this question otherwise: {_cut(answers[0])!r} has a likeness of {likeness:.2f}",
                place=to.place or to.key,
                hint="expect what is trained, or train what is expected",
            )


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"
