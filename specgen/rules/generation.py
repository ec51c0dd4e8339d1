"""Rules about how the model is talked to, and what the smoke test asks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from conversations.row import messages_of
from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts
from specgen.facts.rowtable import MOST_TEXTS
from specgen.modules import NOT_REGULAR
from specgen.rules.smoke import turns_of
from specgen.rules.template import learns_text
from specgen.source import Node
from specgen.validate import place_of

# of a regular expression: what is bound to no place in the text, whose signs in it mean themselves; and what is bound to one
UNBOUND = re.compile(r"\\[^AZbB]|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
BOUND = re.compile(r"\\[AZbB]|\(\?<?[=!]|[\^$]")

HOTTEST = 2.0
PENALTIES = (1.0, 2.0)


def sampling_settings_count(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Greedy decoding reads neither top_k nor top_p; top_k: 1 is greedy in other words."""
    chat = tree.children["chat"].children
    temperature = chat["temperature"]
    if tree.real("chat", "temperature") == 0:
        for key in ("top_k", "top_p"):
            if chat[key].place:
                yield Diagnostic(
                    code="SG501",
                    severity="warning",
                    message=f"chat.{key} is given, and temperature 0 always takes the likeliest token (do_sample: false)",
                    place=chat[key].key,
                    related=((temperature.place, "chat.temperature is set here"),) if temperature.place else (),
                    hint=f"leave {key} out, or write a temperature above 0",
                )
    elif chat["top_k"].value == 1:
        yield Diagnostic(
            code="SG501",
            severity="warning",
            message="chat.top_k 1 always takes the likeliest token, whatever the temperature",
            place=place_of(tree, "chat", "top_k"),
            hint="write temperature: 0, or a larger top_k",
        )


def sampling_stays_readable(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Settings that turn any model's answers into noise."""
    temperature = tree.real("chat", "temperature")
    if temperature > HOTTEST:
        yield Diagnostic(
            code="SG502",
            severity="warning",
            message=f"chat.temperature {temperature:g} makes answers close to random",
            place=place_of(tree, "chat", "temperature"),
            hint="people take 0 to 1",
        )
    penalty = tree.real("chat", "repetition_penalty")
    if not PENALTIES[0] <= penalty <= PENALTIES[1]:
        effect = "rewards repetition" if penalty < 1 else "forbids most words after their first use"
        yield Diagnostic(
            code="SG502",
            severity="warning",
            message=f"chat.repetition_penalty {penalty:g} {effect}",
            place=place_of(tree, "chat", "repetition_penalty"),
            hint="1.0 changes nothing; people take up to 1.2",
        )


def chat_has_the_system_text_of_training(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """What is served is what was trained: another system text is a prompt that the model has not seen."""
    trained, served = tree.children["data"].children["system"], tree.children["chat"].children["system"]
    if isinstance(trained.value, str) and isinstance(served.value, str) and trained.value != served.value:
        yield Diagnostic(
            code="SG503",
            severity="warning",
            message="chat.system is another text than data.system, with which the model is trained",
            place=served.place,
            related=((trained.place, "data.system is set here"),) if trained.place else (),
            hint="leave chat.system out: it takes data.system",
        )


def answers_fit_into_the_model(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Prompt and answer together have to fit into the positions that the model has."""
    most = facts.model.max_positions if facts.model else None
    answer = tree.number("chat", "max_new_tokens")
    if most is not None and answer >= most and tree.children["chat"].children["max_new_tokens"].place:
        yield Diagnostic(
            code="SG504",
            message=f"chat.max_new_tokens is {answer:,}, and the base model has {most:,} positions for prompt and answer",
            place=place_of(tree, "chat", "max_new_tokens"),
            hint=f"write max_new_tokens: {most // 4}, or less",
        )


def expected_texts_can_occur(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """What a smoke test asks for must be able to be in an answer."""
    stops = [str(node.value) for node in tree.children["chat"].children["stop"].items]
    most = tree.number("chat", "max_new_tokens")
    for item in turns_of(tree):
        expect = item.children["expect"].children
        for node in expect["contains"].items:
            text = str(node.value)
            forbidden = next((other for other in expect["not_contains"].items if str(other.value) in text), None)
            stop = next((stop for stop in stops if stop in text), None)
            if forbidden is not None:
                yield Diagnostic(
                    code="SG505",
                    message=f"{_quoted(text)} has to be in the answer, and {_quoted(str(forbidden.value))} must not be",
                    place=node.place,
                    related=((forbidden.place, "not_contains has it here"),) if forbidden.place else (),
                    hint="no answer passes: keep one of the two",
                )
            elif stop is not None:
                yield Diagnostic(
                    code="SG505",
                    message=f"{_quoted(text)} has to be in the answer, which ends before the stop text {_quoted(stop)}",
                    place=node.place,
                    hint="no answer passes: change chat.stop, or what is expected",
                )
            elif len(text.split()) > most:
                yield Diagnostic(
                    code="SG505",
                    message=f"a text of {len(text.split())} words has to be in the answer, and chat.max_new_tokens is {most}",
                    place=node.place,
                    hint="no answer passes: raise chat.max_new_tokens",
                )


def expressions_ask_something(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """An expression that matches the empty text, wherever that is, matches in every answer."""
    for item in turns_of(tree):
        for node in item.children["expect"].children["matches"].items:
            try:
                matches_nothing = re.compile(str(node.value)).search("") is not None
            except NOT_REGULAR:
                continue
            if matches_nothing and not BOUND.search(UNBOUND.sub("", str(node.value))):
                yield Diagnostic(
                    code="SG506",
                    message=f"the regular expression {node.value} is found in every answer",
                    place=node.place,
                    hint="write what the answer has to have, for example '\\d+'",
                )


def questions_are_asked_once(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """With the same seed the same question has the same answer."""
    first: dict[tuple[object, ...], Node] = {}
    for item in tree.children["smoke"].items:
        node = item.children["user"]
        later = tuple(turn.text("user") for turn in item.children["then"].items)
        before = first.setdefault((node.value, item.children["image"].value, *later), node)
        if before is not node:
            yield Diagnostic(
                code="SG507",
                severity="warning",
                message=f"the smoke test asks {_quoted(str(node.value))} twice",
                place=node.place,
                related=((before.place, "the first time"),) if before.place else (),
                hint="one question can have several expectations",
            )


def questions_of_the_smoke_test_are_trained(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Questions beyond the data show what the model makes of them; that is worth knowing, and worth meaning."""
    if not facts.rows_at_hand or facts.survey.rows > MOST_TEXTS:
        return
    known = {message["content"] for row in facts.first_rows(MOST_TEXTS) for message in messages_of(row) if message["role"] == "user"}
    nodes = [item.children["user"] for item in tree.children["smoke"].items if item.children["image"].value is None]
    beyond = [node for node in nodes if node.value not in known]
    if beyond and known:
        yield Diagnostic(
            code="SG508",
            severity="note",
            message=f"{len(beyond)} of {len(nodes)} smoke questions are in no row: they test what the model does beyond its data",
            place=beyond[0].place,
        )


def text_models_do_not_stop(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Continued pretraining teaches no end of turn: an answer goes on until it is cut. Where nobody asks for an end, none is expected."""
    if not learns_text(tree):
        return
    for item in turns_of(tree):
        stops = item.children["expect"].children["stops"]
        if stops.value is True and stops.place:
            yield Diagnostic(
                code="SG509",
                severity="warning",
                message="the answer has to stop by itself, and train.objective: text teaches no end of turn",
                place=stops.place,
                hint="leave stops out",
            )


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
