"""Rules about the data set's figures, where they are known: from a run of the data stage, or from a lock."""

from __future__ import annotations

from collections.abc import Iterator

from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts
from specgen.source import Node
from specgen.validate import place_of

WHAT = {
    "dropped": "of the rows would be dropped as longer than data.max_length",
    "truncated": "of the rows would be cut at data.max_length",
    "duplicates": "of the training rows repeat another one",
    "overlap": "of the validation rows have a prompt that is trained on, too",
}
HINTS = {
    "dropped": "raise data.max_length, or data.limits.dropped",
    "truncated": "raise data.max_length, or data.limits.truncated",
    "duplicates": "leave the repeated rows out, or raise data.limits.duplicates",
    "overlap": "leave the shared prompts out of one of the two, or raise data.limits.overlap",
}


def share_holds(tree: Node, name: str, share: float) -> Iterator[Diagnostic]:
    """One share is at most what data.limits allows."""
    most = tree.real("data", "limits", name)
    if share > most:
        message = f"{share:.1%} {WHAT[name]}; data.limits.{name} allows {most:.1%}"
        yield Diagnostic(code="SG234", message=message, place=place_of(tree, "data", "limits", name), hint=HINTS[name])


def limits_hold(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """The shares that data.limits sets."""
    figures = facts.figures
    if figures is None:
        return
    found = {
        "dropped": figures.dropped / figures.rows,
        "truncated": figures.truncated / figures.rows,
        "duplicates": figures.duplicates,
        "overlap": figures.overlap,
    }
    for name, share in found.items():
        yield from share_holds(tree, name, share)
    least = tree.real("data", "limits", "trained")
    if figures.trained_share < least:
        yield Diagnostic(
            code="SG234",
            message=f"{figures.trained_share:.1%} of the tokens are trained; data.limits.trained asks for {least:.1%}",
            place=place_of(tree, "data", "limits", "trained"),
            hint="the rest is prompts and templates: shorten them, or lower data.limits.trained",
        )
