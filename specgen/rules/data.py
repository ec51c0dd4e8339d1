"""Rules about the data set as a whole. Faults inside rows are found while they are read (facts/rows.py)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts, source_lists
from specgen.rules.sources import settings_of
from specgen.rules.template import learns_text
from specgen.source import Node
from specgen.validate import place_of


def text_rows_have_no_turns(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """format: text has no roles, so that a chat cannot be made of it: for training, and to validate or to ask with."""
    if learns_text(tree):
        return
    for source in itertools.chain(*source_lists(tree)):
        form = settings_of(source).children.get("format")
        if form is not None and form.value == "text":
            yield Diagnostic(
                code="SG232",
                message="rows of format text have no turns, and train.objective is chat",
                place=form.place or form.key,
                hint="write train.objective: text, or name the format of a conversation",
            )


def rows_are_left_for_training(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Holding rows out for validation may not take them all; a weight may not leave none."""
    if facts.survey.held_distinct and facts.train_rows == 0:
        message = f"validation holds out all {facts.survey.held_distinct} distinct rows; none is left for training"
        yield Diagnostic(
            code="SG231",
            message=message,
            place=place_of(tree, "data", "validation"),
            hint="give more distinct rows, or leave validation out",
        )
    for index, source in enumerate(facts.sources):
        if source.rows == 0 and source.own_rows:
            kind, settings = next(iter(tree.children["data"].children["sources"].items[index].children.items()))
            name = "weight" if settings.children["share"].value is None else "share"
            yield Diagnostic(
                code="SG231",
                message=f"the {name} is so small that no row of this source is left",
                place=place_of(tree, "data", "sources", index, kind, name),
                hint=f"give a larger {name}",
            )


def limits_go_with_the_policy(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A limit for what the policy never does, or a policy whose limit forbids it."""
    policy = tree.text("data", "overlong")
    limits = tree.children["data"].children["limits"].children
    drops_bad_rows = tree.text("data", "on_bad_row") == "drop"
    for what, does, never in (
        ("dropped", "drop", policy == "error" and not drops_bad_rows),
        ("truncated", "truncate", policy in ("error", "drop")),
    ):
        node = limits[what]
        if node.place and node.value != 0 and never:
            yield Diagnostic(
                code="SG512",
                severity="warning",
                message=f"data.limits.{what} allows rows to be {what}, and data.overlong: {policy} never does that",
                place=node.key,
                hint=f"write overlong: {does}, or leave the limit out",
            )
        if policy == does and node.value == 0:
            yield Diagnostic(
                code="SG512",
                severity="note",
                message=f"data.overlong: {does}, and data.limits.{what} 0: the first row that is too long ends the run",
                place=place_of(tree, "data", "overlong"),
                hint=f"write limits: {{{what}: 0.01}} for one in a hundred",
            )
