"""Rules about lengths: what fits into the model, and what share of a row can be trained."""

from __future__ import annotations

from collections.abc import Iterator

from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts
from specgen.facts.marking import TRAINED, marked, marking_in
from specgen.rules.template import MOST_ROWS, learns_text
from specgen.source import Node
from specgen.validate import place_of

MARGIN = 1.5  # between the share of characters and that of tokens


def rows_fit_into_the_model(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Positions that the model was never trained on give noise."""
    most, length = facts.model.max_positions if facts.model else None, tree.number("data", "max_length")
    if most and length > most:
        yield Diagnostic(
            code="SG513",
            severity="warning",
            message=f"data.max_length is {length:,}, and the base model has {most:,} positions",
            place=place_of(tree, "data", "max_length"),
            hint=f"write max_length: {most}; longer rows then are told",
        )


def so_much_can_be_trained(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """data.limits.trained is held against tokens; characters tell whether it is out of reach."""
    least, text = tree.real("data", "limits", "trained"), facts.template_text
    if not least or text is None or learns_text(tree) or not facts.survey.rows or facts.figures is not None:
        return
    whole = trained = 0
    for row in facts.first_rows(MOST_ROWS):
        try:
            shown = marked(text, row, marking_in(tree.children["data"].children))
        except Exception:  # told by template_renders_the_data
            return
        trained += sum(len(part.partition(TRAINED[1])[0]) for part in shown.split(TRAINED[0])[1:])
        whole += len(shown)
    if least > min(1.0, MARGIN * trained / whole):
        yield Diagnostic(
            code="SG522",
            severity="warning",
            message=f"data.limits.trained is {least:.0%}; of the characters of the first rows {trained / whole:.0%} are trained",
            place=place_of(tree, "data", "limits", "trained"),
            hint="lower the limit: prompts and the template's own words are not trained",
        )
