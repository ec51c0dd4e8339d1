"""Rules about how the model is talked to: the settings of a chat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts
from specgen.source import Node
from specgen.validate import place_of

HOTTEST = 2.0
PENALTIES = (1.0, 2.0)
GREEDY_LEFTOVERS = ("temperature", "top_k", "top_p", "min_p", "typical_p")


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


def the_base_generates_consistently(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Many published models carry sampling values beside do_sample: false; strict checks refuse to save those."""
    settings: dict[str, Any] = facts.model.tokenizer.generation if facts.model and facts.model.tokenizer else {}
    unused = [name for name in GREEDY_LEFTOVERS if settings.get(name) not in (None, 1.0, 50 if name == "top_k" else None)]
    if settings and not settings.get("do_sample", False) and unused:
        yield Diagnostic(
            code="SG523",
            severity="note",
            message=f"the base model's generation_config.json sets {', '.join(unused)} without do_sample; the export leaves that out",
            place=place_of(tree, "model", "base"),
            hint="the exported model generates as the section chat says",
        )


def stop_texts_can_be_said(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Control tokens are no text of an answer: generation stops on the end of turn anyway, and on others it could not."""
    controls = facts.model.tokenizer.controls if facts.model and facts.model.tokenizer else {}
    for node in tree.children["chat"].children["stop"].items:
        if node.value in controls:
            yield Diagnostic(
                code="SG524",
                severity="warning",
                message=f"{node.value} is a control token: it is no text of an answer, so this stop text never occurs",
                place=node.place,
                hint="leave it out; answers end at the template's end of turn by themselves",
            )


def system_texts_say_something(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """An empty text is not the same as none: templates write an empty system turn for it."""
    for section in ("data", "chat"):
        node = tree.children[section].children["system"]
        if isinstance(node.value, str) and not node.value.strip():
            yield Diagnostic(
                code="SG525",
                severity="note",
                message=f"{section}.system is empty: most templates then write a system turn with nothing in it",
                place=node.place,
                hint="null leaves the system turn to the template",
            )
