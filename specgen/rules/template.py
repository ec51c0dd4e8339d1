"""Rules about the chat template."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator

from conversations.row import Row, conversation_of
from specgen.diagnostics import Diagnostic, Place, printable
from specgen.facts.gather import Facts
from specgen.facts.marking import marked, marking_in, with_system
from specgen.facts.template import render_chat
from specgen.limits import told
from specgen.source import Node
from specgen.validate import place_of

QUESTION, ANSWER = "\ue000", "\ue001"  # private characters: no template has them
PROBE = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
MOST_ROWS = 100


def tokenizer_has_a_template(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """template: tokenizer needs a base model that brings one."""
    if learns_text(tree):
        return
    if facts.template.name == "tokenizer" and facts.model and facts.model.template_known and facts.model.chat_template is None:
        yield Diagnostic(
            code="SG221",
            message="the base model has no chat template of its own",
            place=place_of(tree, "template"),
            hint="name one, for example template: chatml",
        )


def template_renders(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A question and an answer render, and the answer is in the text; the question alone does with the generation prompt behind it."""
    text = facts.template_text
    if text is None or learns_text(tree):
        return
    place = template_place(tree)
    rendered = ""
    for what, messages in (("", PROBE), (" a question with the generation prompt", PROBE[:1])):
        try:
            shown = render_chat(text, messages, add_generation_prompt=messages is not PROBE)
        except Exception as error:  # a template may raise anything
            line = getattr(error, "lineno", None)
            where = f" (its line {line})" if line else ""
            yield Diagnostic(code="SG203", message=f"the chat template does not render{what}{where}: {told(error)}", place=place)
            return
        rendered = rendered or shown
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
    if text is None or learns_text(tree) or any(template_renders(tree, facts)):
        return
    marking = marking_in(tree.children["data"].children)
    for row in _rows_of_every_source(facts):
        try:
            marked(text, row, marking)
        except Exception as error:  # a template may raise anything
            message = f"the chat template does not render a conversation of the data: {told(error)}"
            yield Diagnostic(code="SG203", message=message, place=template_place(tree))
            return


def _rows_of_every_source(facts: Facts) -> list[Row]:
    """The first rows, one of each source in turn: a source behind a long one has its turns looked at, too."""
    texts = [source.texts for source in itertools.chain(*facts.source_lists)]
    in_turn = (row for rows in itertools.zip_longest(*texts) for row in rows if row is not None)
    return list(itertools.islice(in_turn, max(MOST_ROWS, len(texts))))


def learns_text(tree: Node) -> bool:
    """Whether training has no template and no roles."""
    return tree.text("train", "objective") == "text"


def template_place(tree: Node) -> Place | None:
    """Where the template is named or written."""
    template = tree.children["template"]
    return next(iter(template.children.values())).place if template.children else template.place or place_of(tree, "model", "base")


def system_text_of_the_template_is_shown(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Many templates add a system text when a conversation has none: the user is told which."""
    text = facts.template_text
    if text is None or learns_text(tree) or tree.children["data"].children["system"].value is not None:
        return
    with_one = facts.survey.traits.get("a system text")
    if facts.survey.rows == (with_one.rows if with_one else 0):
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


def system_text_is_shown(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A template that leaves system texts out would train and chat without them."""
    text = facts.template_text
    given = [path for path in ("data", "chat") if tree.children[path].children["system"].value]
    if text is None or learns_text(tree) or not (given or "a system text" in facts.survey.traits):
        return
    try:
        whole = render_chat(text, [{"role": "system", "content": "\ue002"}, *PROBE], add_generation_prompt=False)
    except Exception:  # it refuses them: told where the data are rendered
        return
    if "\ue002" not in whole and QUESTION in whole and ANSWER in whole:
        where = tree.at(given[0], "system") if given else None
        yield Diagnostic(
            code="SG543",
            message="the chat template leaves system texts out",
            place=template_place(tree),
            hint="write messages of the role system in the template, or leave system texts out of the data and the spec",
            related=((where.place, "a system text"),) if where and where.place else (),
        )


def earlier_turns_stay(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A conversation up to an answer, with the generation prompt, is how the whole conversation begins: training masks by it."""
    text = facts.template_text
    if text is None or learns_text(tree) or any(template_renders(tree, facts)):
        return
    marking = marking_in(tree.children["data"].children)
    if marking.last_only or marking.train_on == "all":
        return
    rows = [with_system(conversation_of(row), marking.system)["messages"] for row in facts.survey.dialogues]
    for messages in [PROBE, *rows]:
        try:
            kept = _turns_stay(text, messages)
        except Exception:  # told by template_renders_the_data
            return
        if not kept:
            what = "puts something else before an answer than its generation prompt"
            example = "" if messages is PROBE else f", for example in the row that ends with {printable(messages[-1]['content'])[:60]!r}"
            yield Diagnostic(
                code="SG229",
                message=f"the chat template {what if messages is PROBE else 'rewrites earlier turns'}{example}",
                place=template_place(tree),
                hint="use one whose turns stay as they are, such as template: chatml; or train_on: last_assistant, or unroll: true",
            )
            return


def _turns_stay(template: str, messages: list[dict[str, str]]) -> bool:
    whole = render_chat(template, messages, add_generation_prompt=False)
    for index, message in enumerate(messages):
        if message["role"] == "assistant":
            before = render_chat(template, messages[:index], add_generation_prompt=True) if index else ""
            until = render_chat(template, messages[: index + 1], add_generation_prompt=False)
            if not (whole.startswith(before) and whole.startswith(until)):
                return False
    return True


def the_generation_prompt_is_whole(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """What stands between the generation prompt and the answer is trained, and written by the model itself in a chat."""
    text = facts.template_text
    if text is None or learns_text(tree) or any(template_renders(tree, facts)):
        return
    prompt = render_chat(text, PROBE[:1], add_generation_prompt=True)
    whole = render_chat(text, PROBE, add_generation_prompt=False)
    header = whole[len(prompt) :].partition(ANSWER)[0] if whole.startswith(prompt) else ""
    if re.search(r"assistant|model|bot|<\|", header, re.IGNORECASE):
        lacking = json.dumps(header, ensure_ascii=False)
        literal = lacking[1:-1].replace("'", r"\'")  # in single quotes: most specs have their templates in double ones
        yield Diagnostic(
            code="SG230",
            severity="warning",
            message=f"the generation prompt lacks {lacking}: the model is trained to write it before each answer",
            place=template_place(tree),
            hint="end the template with {% if add_generation_prompt %}{{ '" + literal + "' }}{% endif %}",
        )


def row_count(number: int) -> str:
    """`1 row`, `1,000 rows`."""
    return "1 row" if number == 1 else f"{number:,} rows"


def contents_stay_as_they_are(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Many templates trim what is said. Where rows begin or end with spaces or line breaks, these are not learned."""
    text, rows = facts.template_text, facts.survey.traits.get("blank edges")
    if text is None or rows is None or learns_text(tree):
        return
    edged = [{**message, "content": f"\n {message['content']} \n"} for message in PROBE]
    try:
        whole = render_chat(text, edged, add_generation_prompt=False)
    except Exception:  # a template may raise anything
        return
    if any(message["content"] not in whole for message in edged):
        yield Diagnostic(
            code="SG514",
            severity="note",
            message=f"the chat template trims what is said: blanks are lost in {row_count(rows.rows)}, the first: {rows.example}",
            place=template_place(tree),
        )


def the_template_knows_no_date(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A date in the prompt is another prompt on another day."""
    if facts.template_text and "strftime_now" in facts.template_text and not learns_text(tree):
        yield Diagnostic(
            code="SG544",
            severity="warning",
            message="the chat template writes today's date: training and chat see other prompts on another day",
            place=template_place(tree),
            hint="give a template of your own with a fixed date, or without one",
        )
