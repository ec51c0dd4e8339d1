"""Rules about synthetic rules: the names and variables that they have, and the texts that they never take."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator

from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts, source_lists
from specgen.facts.synthetic import unused_variables
from specgen.rules.sources import settings_of
from specgen.source import Node

KINDS = {"file": "reads files", "hub": "is on the hub", "llm": "is written by another model"}


def names_are_different(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A name stands for one source, in messages and where a rule takes its values from another."""
    first: dict[str, Node] = {}
    for source in itertools.chain(*source_lists(tree)):
        name = settings_of(source).children["name"]
        if not isinstance(name.value, str):
            continue
        before = first.setdefault(name.value, name)
        if before is not name:
            yield Diagnostic(
                code="SG584",
                message=f"two sources are called {name.value}",
                place=name.place,
                hint="give one of them another name, or none",
                related=((before.place, "the first one"),) if before.place else (),
            )


def rules_come_before(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A rule takes its values from rules further up, so that none takes them from itself by a detour."""
    sources = [*itertools.chain(*source_lists(tree))]
    for index, source in enumerate(sources):
        variables = settings_of(source).children.get("variables")
        for variable in variables.children.values() if variables else ():
            if rule := variable.children.get("rule"):
                yield from _named_before(rule, sources, index)


def _named_before(rule: Node, sources: list[Node], index: int) -> Iterator[Diagnostic]:
    name = str(rule.value)
    kinds = [(settings_of(source).children["name"].value, next(iter(source.children))) for source in sources]
    if (name, "synthetic") in kinds[:index]:
        return
    later = {other: kind for other, kind in kinds[index + 1 :] if isinstance(other, str)}
    earlier = {other: kind for other, kind in kinds[:index] if isinstance(other, str)}
    hint = None
    if name in earlier or (later.get(name) not in (None, "synthetic")):
        kind = earlier.get(name) or later[name]
        message = f"the source {name} {KINDS[kind]}: values can be taken from synthetic sources"
    elif kinds[index][0] == name:
        message = f"the rule {name} takes its values from itself"
    elif name in later:
        message, hint = f"the rule {name} is further down", "move it up: a rule takes its values from rules before it"
    else:
        known = [other for other, kind in earlier.items() if kind == "synthetic"]
        near = difflib.get_close_matches(name, known, n=1)
        message = f"there is no synthetic source called {name}"
        hint = (
            f"did you mean '{near[0]}'?"
            if near
            else f"those further up are {', '.join(known)}"
            if known
            else "give a synthetic source further up that name"
        )
    yield Diagnostic(code="SG585", message=message, place=rule.place, hint=hint)


def variables_are_used(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A variable that no text names only multiplies the rows."""
    for source in itertools.chain(*source_lists(tree)):
        rule = source.children.get("synthetic")
        for name in unused_variables(rule) if rule else ():
            assert rule is not None
            node = rule.children["variables"].children[name]
            multiplies = rule.children["combine"].value == "product" and rule.children["sample"].value is None
            times = f", and makes {len(node.items)} times as many rows" if multiplies and len(node.items) > 1 else ""
            yield Diagnostic(
                code="SG515",
                severity="warning",
                message=f"no message names the variable {name}{times}",
                place=node.key or node.place,
                hint=f"write {{{{ {name} }}}} in a message; repeat makes more rows",
            )


def paraphrases_are_taken(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A conversation takes one paraphrase, however often it is repeated: of more texts than conversations some are never seen."""
    for source, found in zip(itertools.chain(*source_lists(tree)), itertools.chain(*facts.source_lists), strict=True):
        rule = source.children.get("synthetic")
        for message in rule.children["messages"].items if rule else ():
            ((role, texts),) = message.children.items()
            if found.own_rows and len(texts.items) > found.own_rows:
                conversations = "one conversation takes" if found.own_rows == 1 else f"{found.own_rows} conversations take"
                yield Diagnostic(
                    code="SG588",
                    severity="warning",
                    message=f"{conversations} one each of these {len(texts.items)} texts: the others are never trained on",
                    place=texts.place or texts.key,
                    hint=f"make them a variable: then there is a conversation with each; variables: {{{role}: […]}}",
                )
