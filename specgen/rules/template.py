"""Rules about the chat template."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

from specgen.diagnostics import Diagnostic, Place
from specgen.facts.gather import Facts
from specgen.facts.template import conversation, mark_trained, render_chat
from specgen.limits import told
from specgen.source import Node
from specgen.validate import place_of

QUESTION, ANSWER = "\ue000", "\ue001"  # private characters: no template has them
PROBE = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
MOST_ROWS = 100


def tokenizer_has_a_template(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """template: tokenizer needs a base model that brings one."""
    if _learns_text(tree):
        return
    if facts.template.name == "tokenizer" and facts.model and facts.model.template_known and facts.model.chat_template is None:
        yield Diagnostic(
            code="SG221",
            message="the base model has no chat template of its own",
            place=place_of(tree, "template"),
            hint="name one, for example template: chatml",
        )


def template_renders(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A question and an answer render, and the answer is in the text."""
    text = facts.template_text
    if text is None or _learns_text(tree):
        return
    place = _place(tree)
    try:
        rendered = render_chat(text, PROBE, add_generation_prompt=False)
    except Exception as error:  # a template may raise anything
        line = getattr(error, "lineno", None)
        where = f" (its line {line})" if line else ""
        yield Diagnostic(code="SG203", message=f"the chat template does not render{where}: {told(error)}", place=place)
        return
    if QUESTION not in rendered or ANSWER not in rendered:
        yield Diagnostic(
            code="SG203",
            message="the chat template leaves out what is said",
            place=place,
            hint="it loops over messages and writes message['content']",
        )


def template_renders_the_data(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """The first conversations render, too: with their roles, in their order."""
    text = facts.template_text
    if text is None or _learns_text(tree) or any(template_renders(tree, facts)):
        return
    system = tree.children["data"].children["system"].value
    for row in itertools.islice(facts.counts, MOST_ROWS):
        try:
            mark_trained(text, conversation(row, system if isinstance(system, str) else None))
        except Exception as error:  # a template may raise anything
            message = f"the chat template does not render a conversation of the data: {told(error)}"
            yield Diagnostic(code="SG203", message=message, place=_place(tree))
            return


def _learns_text(tree: Node) -> bool:
    return tree.text("train", "objective") == "text"


def _place(tree: Node) -> Place | None:
    template = tree.children["template"]
    return next(iter(template.children.values())).place if template.children else template.place


def system_text_of_the_template_is_shown(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Many templates add a system text when a conversation has none: the user is told which."""
    text = facts.template_text
    if text is None or _learns_text(tree) or tree.children["data"].children["system"].value is not None:
        return
    if all(json.loads(row)[0][0] == "system" for row in facts.counts):
        return
    added = injected_system(text)
    if added:
        message = f"conversations without a system text get one from the chat template: {json.dumps(added, ensure_ascii=False)}"
        yield Diagnostic(
            code="SG222",
            severity="note",
            message=message,
            place=place_of(tree, "template"),
            hint="data.system sets your own, for training and chat alike",
        )


def injected_system(template: str) -> str | None:
    """The text that a template puts before a first user message, beyond what it puts there after a system message."""
    user = [{"role": "user", "content": "\ue000"}]
    try:
        bare = render_chat(template, user, add_generation_prompt=False)
        given = render_chat(template, [{"role": "system", "content": "\ue001"}, *user], add_generation_prompt=False)
    except Exception:  # templates without a system role raise: nothing is added then
        return None
    before, _, after = given.partition("\ue001")
    middle = after.partition("\ue000")[0]
    start = bare.partition("\ue000")[0]
    if before and start.startswith(before) and middle and start.endswith(middle) and len(start) >= len(before + middle):
        return start[len(before) : len(start) - len(middle)].strip() or None
    return None
