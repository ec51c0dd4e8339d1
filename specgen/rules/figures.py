"""Rules about the data set's figures, where they are known: from a run of the data stage, or from a lock."""

from __future__ import annotations

from collections.abc import Iterator

from conversations.limits import over, under
from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts
from specgen.source import Node
from specgen.validate import place_of


def share_holds(tree: Node, name: str, share: float) -> Iterator[Diagnostic]:
    """One share is at most what data.limits allows."""
    most = tree.real("data", "limits", name)
    if share > most:
        message, hint = over(name, share, most)
        yield Diagnostic(code="SG234", message=message, place=place_of(tree, "data", "limits", name), hint=hint)


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
        message, hint = under(figures.trained_share, least)
        yield Diagnostic(code="SG234", message=message, place=place_of(tree, "data", "limits", "trained"), hint=hint)
