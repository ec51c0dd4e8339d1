"""Rules about how sources are put together: shares, weights and limits."""

from __future__ import annotations

from collections.abc import Iterator

from conversations.mixing import shares_fault
from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts, SourceFacts, source_lists
from specgen.rules.sources import settings_of
from specgen.source import Node

MOST_REPEATS = 10


def shares_go_together(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Shares leave room for the sources that have none, or are the whole."""
    for sources in source_lists(tree):
        shares = [settings_of(source).children["share"] for source in sources]
        given = [share for share in shares if share.value is not None]
        if fault := shares_fault([_real(share) for share in shares]):
            whole = len(given) == len(shares)
            yield Diagnostic(
                code="SG580",
                message=fault,
                place=given[-1].place,
                hint="leave it out of one source, which then keeps its rows" if whole else "give smaller shares, or each source one",
                related=tuple((share.place, "and this one") for share in given[:-1] if share.place),
            )


def shares_stand_alone(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A share says how many rows a source gives: weight and repeat would say it again."""
    for sources in source_lists(tree):
        for source in sources:
            settings = settings_of(source).children
            name = "repeat" if "repeat" in settings else "weight"
            if settings["share"].value is not None and settings[name].value != 1:
                yield Diagnostic(
                    code="SG581",
                    message=f"share says how many rows this source gives, and {name} says it, too",
                    place=settings[name].key,
                    hint=f"leave out one of the two: {name}, or share",
                    related=((settings["share"].place, "the share"),) if settings["share"].place else (),
                )


def limits_leave_rows_out(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A limit above the number of rows: it may have been meant for another source, or the rows are not all there."""
    for source, found in _with_facts(tree, facts):
        limit = settings_of(source).children["limit"]
        if isinstance(limit.value, int) and found.own_rows and limit.value > found.own_rows:
            yield Diagnostic(
                code="SG582",
                severity="note",
                message=f"limit: {limit.value:,} leaves no row out: the source has {found.own_rows:,}",
                place=limit.place,
                hint="leave it out, or give a smaller one",
            )


def shares_repeat_little(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A large share of few rows: the model knows them by heart before it has seen the others once."""
    for source, found in _with_facts(tree, facts):
        settings = settings_of(source).children
        limit = settings["limit"].value
        kept = min(found.own_rows or 0, limit if isinstance(limit, int) else found.own_rows or 0)
        if settings["share"].value is not None and kept and found.rows and found.rows > MOST_REPEATS * kept:
            yield Diagnostic(
                code="SG583",
                severity="warning",
                message=f"for this share {'the one row is' if kept == 1 else f'each of {kept:,} rows is'}"
                f" repeated about {found.rows / kept:,.0f} times in an epoch",
                place=settings["share"].place,
                hint="give a smaller share, or more rows",
            )


def _with_facts(tree: Node, facts: Facts) -> Iterator[tuple[Node, SourceFacts]]:
    for sources, found in zip(source_lists(tree), facts.source_lists, strict=True):
        yield from zip(sources, found, strict=True)


def _real(node: Node) -> float | None:
    return float(node.value) if isinstance(node.value, int | float) else None
