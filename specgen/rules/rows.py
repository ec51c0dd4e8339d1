"""Rules about what the rows say, and how often (facts/survey.py has looked at them)."""

from __future__ import annotations

import math
from collections.abc import Iterator

from specgen.diagnostics import Diagnostic, Place
from specgen.facts.gather import Facts
from specgen.facts.survey import beginning
from specgen.facts.template import render_chat
from specgen.rules.figures import share_holds
from specgen.rules.template import PROBE, learns_text, row_count
from specgen.schedule import divides, schedule, world_size
from specgen.source import Node
from specgen.validate import place_of

USUAL_SHARE, USUAL_PROMPTS = 0.95, 5
OVERLAP = 0.1
REPEATED = 0.1
FEW, MANY = 20, 100
FEW_STEPS = 10


def shares_keep_to_their_limits(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """data.limits of duplicates and overlap need no tokenizer, so that they hold before a run of the data stage."""
    if facts.figures is not None or not facts.rows_at_hand:
        return
    for name, share in (("duplicates", facts.survey.duplicates), ("overlap", facts.survey.overlap)):
        if share is not None:
            yield from share_holds(tree, name, share)


def validation_fills_a_batch(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Fewer rows than one forward pass of all processes say little, and some processes repeat others'."""
    rows = facts.survey.held_rows
    if not rows or not divides(tree):
        return
    micro_batch_size = schedule(tree, facts.examples).micro_batch_size
    needed = micro_batch_size * world_size(tree)
    if rows < needed:
        key = next(iter(tree.children["data"].children["validation"].children))
        more = "add rows to data.validation.sources" if key == "sources" else f"raise data.validation.{key}"
        yield Diagnostic(
            code="SG235",
            severity="warning",
            message=f"validation has {row_count(rows)}, fewer than one forward pass takes:"
            f" {micro_batch_size} x {world_size(tree)} processes",
            place=place_of(tree, "data", "validation", key),
            hint=f"{more}: a loss over so few rows says little",
        )


def validation_asks_something_new(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Prompts that are trained on, too, make the validation loss look better than the model is."""
    overlap = facts.survey.overlap
    if overlap is not None and overlap >= OVERLAP and overlap <= tree.real("data", "limits", "overlap"):
        yield Diagnostic(
            code="SG236",
            severity="note",
            message=f"{overlap:.0%} of the validation rows have a prompt that is trained on, too: their loss is too good",
            place=place_of(tree, "data", "validation"),
            hint="data.limits.overlap makes it an error",
        )


def answers_differ(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A model that has learned one answer to everything gives it to everything else, too."""
    share, prompts = facts.survey.usual_answer
    if share >= USUAL_SHARE and prompts >= USUAL_PROMPTS and not learns_text(tree):
        yield Diagnostic(
            code="SG540",
            severity="note",
            message=f"{share:.0%} of the rows end with the same answer, to {prompts} prompts: the model may give it to every question",
            place=_sources(tree),
            hint="add rows with other answers, as specs/assistant.yaml does",
        )


def rows_are_not_one(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """One conversation, many times over."""
    if facts.survey.distinct == 1 and facts.rows_at_hand and facts.survey.rows >= MANY:
        yield Diagnostic(
            code="SG516",
            severity="note",
            message=f"all {facts.rows:,} rows are one conversation: {beginning(facts.first_rows(1)[0])}",
            place=_sources(tree),
            hint="ask in several ways, and add rows with other answers; fewer epochs do as much as fewer repeats",
        )


def files_do_not_repeat_rows(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Repeats that nobody asked for: by a weight or a synthetic rule they are meant."""
    for index, source in enumerate(facts.sources):
        if not source.files or not source.table:
            continue
        rows = len(source.table)
        repeated = rows - len(set(source.table.digests))
        if rows >= FEW and repeated / rows >= REPEATED:
            yield Diagnostic(
                code="SG239",
                severity="note",
                message=f"{repeated:,} of {rows:,} rows repeat another one of this source",
                place=place_of(tree, "data", "sources", index, "file", "path"),
                hint="data.limits.duplicates makes it an error",
            )


def control_tokens_are_text(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A conversation that was rendered before, or one about templates."""
    yield from _told(tree, facts, "control tokens", "SG216", "note", "{} control tokens in what is said; they are trained as plain text")


def texts_are_clean(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """What an editor or a wrong encoding left behind would be learned, too."""
    what = "{} characters that are no text (byte order marks, NUL, lone CR, replacement characters)"
    yield from _told(tree, facts, "odd characters", "SG217", "warning", what)


def conversations_end_with_an_answer(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A question that nobody answers is read and not learned from."""
    yield from _told(tree, facts, "no answer at the end", "SG218", "note", "{} a last question without an answer: it teaches nothing")


def turns_alternate(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Many templates refuse what this one renders; other data tools drop it."""
    what = "{} turns in an unusual order (a role twice in a row, an assistant first, or a later system text)"
    yield from _told(tree, facts, "unusual turns", "SG219", "note", what)


def system_texts_are_one(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """data.system is for rows that have none: the others keep theirs."""
    if tree.children["data"].children["system"].value is not None:
        what = "{} a system text already, which data.system does not replace"
        yield from _told(tree, facts, "a system text", "SG220", "note", what, place_of(tree, "data", "system"))


def rows_hold_no_secrets(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """What is trained on can be asked for."""
    found = facts.survey.traits.get("secrets")
    if found:
        yield Diagnostic(
            code="SG549",
            severity="warning",
            message=f"{_rows(found.rows)} what looks like an access token or a private key: the model may tell it to anybody",
            place=_sources(tree),
            hint="take it out of the data, and revoke it",
        )


def chat_rows_lose_their_roles(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """train.objective: text joins the turns of a conversation."""
    chats = facts.survey.traits.get("roles")
    if chats and learns_text(tree):
        yield Diagnostic(
            code="SG519",
            severity="note",
            message=f"{_rows(chats.rows)} roles, and train.objective: text leaves them out: questions and answers are trained as one text",
            place=place_of(tree, "train", "objective"),
            hint="train.objective: chat learns the answers alone",
        )


def packing_leaves_steps(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Packed into long rows, few short conversations are a handful of steps. A text has at most as many tokens as bytes."""
    data, frame = tree.children["data"], _frame_bytes(tree, facts)
    if not data.children["packing"].value or facts.examples is not None or not facts.rows_at_hand or frame is None:
        return
    most_bytes = 0
    image_tokens = facts.vision.tower.image_tokens if facts.vision and facts.vision.tower else None
    for table, counts in ((source.table, source.counts) for source in facts.sources):
        if table is None or counts is None or (image_tokens is None and any(table.images)):
            return
        lines = zip(table.sizes, table.messages, table.images, counts, strict=True)
        most_bytes += sum((size + frame * messages + (image_tokens or 0) * images) * count for size, messages, images, count in lines)
    length = data.number("max_length")
    most_rows = min(facts.survey.rows, math.ceil(2 * most_bytes / length))  # best fit leaves no two rows half empty
    if not most_rows or not divides(tree):
        return
    steps = schedule(tree, most_rows)
    if steps.total_steps is not None and steps.epochs is not None and steps.total_steps < FEW_STEPS:
        yield Diagnostic(
            code="SG518",
            severity="warning",
            message=f"packed, the data set is at most {row_count(most_rows)} of {length:,} tokens:"
            f" training would have at most {steps.total_steps} step{'s' if steps.total_steps > 1 else ''}",
            place=place_of(tree, "data", "packing"),
            hint="write packing: false, a smaller train.batch_size, or more epochs",
        )


def _frame_bytes(tree: Node, facts: Facts) -> int | None:
    """More than a template writes around a turn, in bytes; None where the template is not known."""
    if learns_text(tree):
        return 1
    try:
        return len(render_chat(facts.template_text, PROBE, add_generation_prompt=False).encode()) if facts.template_text else None
    except Exception:  # told by template.template_renders
        return None


def _told(tree: Node, facts: Facts, kind: str, code: str, severity: str, what: str, place: Place | None = None) -> Iterator[Diagnostic]:
    trait = facts.survey.traits.get(kind)
    if trait is None or (learns_text(tree) and kind != "odd characters"):
        return
    yield Diagnostic(
        code=code,
        severity="warning" if severity == "warning" else "note",
        message=f"{what.format(_rows(trait.rows))}; the first: {trait.example}",
        place=place or _sources(tree),
    )


def _rows(number: int) -> str:
    return f"{row_count(number)} {'has' if number == 1 else 'have'}"


def _sources(tree: Node) -> Place | None:
    return place_of(tree, "data", "sources")
