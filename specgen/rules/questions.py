"""Rules about what previews and the smoke test ask, held against what the rows say."""

from __future__ import annotations

from collections.abc import Iterator

from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts
from specgen.rules.template import learns_text
from specgen.source import Node


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


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"
