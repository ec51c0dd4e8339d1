"""A row as the model sees it, with marks around what is trained: for people and for comparisons; the runtime makes the masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conversations.row import Conversation, Message, conversation_of, messages_of
from specgen.facts.template import render_chat, render_spoken
from specgen.plan import DataPlan
from specgen.source import Node

TRAINED = ("[[", "]]")
PROBE = "\u2014"


@dataclass(frozen=True, slots=True, kw_only=True)
class Marking:
    """What of a conversation is trained. `system` is the text for conversations that have none of their own."""

    system: str | None
    train_on: str
    end_of_turn: bool
    last_only: bool


def marking_of(data: DataPlan) -> Marking:
    """As the plan says. Where each answer is a row of its own, the whole conversation is the row of the last one."""
    last_only = data.unroll or data.train_on == "last_assistant"
    return Marking(system=data.system, train_on=data.train_on, end_of_turn=data.train_end_of_turn, last_only=last_only)


def marking_in(data: Mapping[str, Node]) -> Marking:
    """As the section `data` of a complete tree says."""
    system, train_on = data["system"].value, str(data["train_on"].value)
    return Marking(
        system=system if isinstance(system, str) else None,
        train_on=train_on,
        end_of_turn=data["train_end_of_turn"].value is True,
        last_only=data["unroll"].value is True or train_on == "last_assistant",
    )


def marked(template: str, row: str, marking: Marking) -> str:
    """The rendered conversation. The assistant's contents and the end of their turns, up to the line break, are marked."""
    conversation = conversation_of(row)
    if "messages" not in conversation:
        return f"{TRAINED[0]}{conversation['text']}{TRAINED[1]}"
    conversation = with_system(conversation, marking.system)
    messages, tools = conversation["messages"], conversation.get("tools")
    text, said = render_spoken(template, messages, tools=tools)
    if marking.train_on == "all":
        return TRAINED[0] + text.rstrip("\n") + TRAINED[1]
    answers = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    places = dict(zip(answers, said, strict=True)) if len(said) == len(answers) else {}
    for index in reversed(answers[-1:] if marking.last_only else answers):
        if messages[index].get("train") is False or messages[index].get("weight") == 0:
            continue
        start, end = places.get(index) or _turn(template, messages, index, tools)
        answer = text[start:end].rstrip("\n")
        if not marking.end_of_turn:
            answer = _words(answer, str(messages[index]["content"]))
        text = text[:start] + TRAINED[0] + answer + TRAINED[1] + text[start + len(answer) :]
    return text.rstrip("\n")


def _turn(template: str, messages: list[Message], index: int, tools: list[Any] | None) -> tuple[int, int]:
    """Where an answer stands in a template that does not mark it: between what is rendered before it and with it."""
    if index:
        start = render_chat(template, messages[:index], add_generation_prompt=True, tools=tools)
    else:  # to nothing there is no prompt
        greeting = [{**messages[0], "content": PROBE}]
        start = render_chat(template, greeting, add_generation_prompt=False, tools=tools).partition(PROBE)[0]
    end = render_chat(template, messages[: index + 1], add_generation_prompt=False, tools=tools)
    return len(start), len(end)


def _words(answer: str, content: str) -> str:
    """An answer up to the end of its words."""
    at = answer.rfind(content.strip())
    return answer if at < 0 else answer[: at + len(content.strip())]


def with_system(conversation: Conversation, system: str | None) -> dict[str, Any]:
    """A conversation, with the spec's system text where it has none of its own."""
    messages: list[Message] = conversation["messages"]
    if system is None or messages[0]["role"] == "system":
        return conversation
    return {**conversation, "messages": [{"role": "system", "content": system}, *messages]}


def plain_text(row: str) -> str:
    """A row without template and roles: its texts, one after another."""
    return "\n".join(message["content"] for message in messages_of(row))
