"""Rules about lengths: what fits into the model, and what share of a row can be trained."""

from __future__ import annotations

from collections.abc import Iterator

from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts
from specgen.facts.marking import TRAINED, marked, marking_in
from specgen.rules.template import MOST_ROWS, learns_text
from specgen.source import Node
from specgen.validate import place_of

# families of transformers 5.23 that take no notice of where positions start again (measured: runtime/training/isolation.py)
LEAKING = frozenset({"bloom", "falcon", "gpt_oss", "lfm2", "mamba", "mamba2", "mpt", "opt", "qwen3_next", "recurrent_gemma"})
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


def packed_rows_stay_apart(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Not every family looks at positions, by which alone packed rows are kept apart."""
    packing = tree.at("data", "packing")
    family = facts.model.model_type if facts.model else None
    if packing and packing.value and family in LEAKING:
        yield Diagnostic(
            code="SG494",
            message=f"models of the family {family} let packed rows see each other",
            place=place_of(tree, "data", "packing"),
            hint="write packing: false; train.group_by_length: true leaves little padding, too",
        )


def packed_rows_are_not_grouped(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Packs are of one length, or nearly."""
    grouped = tree.at("train", "group_by_length")
    packing = tree.at("data", "packing")
    if grouped and grouped.value and packing and packing.value:
        yield Diagnostic(
            code="SG599",
            message="train.group_by_length puts rows of like length into a batch, and data.packing makes all rows about as long",
            place=place_of(tree, "train", "group_by_length"),
            related=((packing.place, "data.packing is set here"),) if packing.place else (),
            hint="leave one of the two out",
        )


def settings_of_rows_count(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A setting of rows that others leave without effect."""
    data = tree.children["data"]
    policy = data.text("overlong")
    if data.text("truncate_from") == "user" and policy != "truncate":
        reason = f"says where overlong: truncate cuts, and data.overlong is {policy}"
        yield _without_effect(tree, "truncate_from", "user", reason, "write overlong: truncate, or leave truncate_from out")
    if data.text("train_on") == "all" and data.children["train_end_of_turn"].value is False:
        reason = "says what of an answer is trained, and train_on: all trains every token"
        yield _without_effect(tree, "train_end_of_turn", False, reason, "leave it out, or write train_on: assistant")
    if not learns_text(tree):
        return
    roles = "is about the turns of a conversation, and train.objective: text has none"
    for key, value in (("train_on", "last_assistant"), ("unroll", True), ("train_end_of_turn", False), ("truncate_from", "user")):
        if data.children[key].value == value and not (key == "truncate_from" and policy != "truncate"):
            yield _without_effect(tree, key, value, roles, "leave it out")


def _without_effect(tree: Node, key: str, value: str | bool, reason: str, hint: str) -> Diagnostic:
    said = str(value).lower() if isinstance(value, bool) else value
    return Diagnostic(
        code="SG598", severity="warning", message=f"data.{key}: {said} {reason}", place=place_of(tree, "data", key), hint=hint
    )
