"""Chat templates, as far as the compiler goes: which one, and whether it renders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

from conversations.row import Message, messages_of
from specgen.limits import TooMuch, limited
from specgen.places import data_folder

if TYPE_CHECKING:
    from jinja2 import Template
    from jinja2.sandbox import SandboxedEnvironment

TRAINED = ("[[", "]]")
LONGEST_RENDERING = 0.5  # seconds
# stand for control tokens whose texts only the tokenizer knows
NAMES = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}


def shipped_templates() -> dict[str, str]:
    """Name → Jinja text of the chat templates that come with specgen."""
    folder = data_folder("chat_templates")
    return {file.stem: file.read_text(encoding="utf-8").rstrip("\n") for file in sorted(folder.glob("*.jinja"))}


def render_chat(template: str, messages: list[Message], *, add_generation_prompt: bool, names: Mapping[str, str] = NAMES) -> str:
    """A conversation as text, by the conventions of transformers' apply_chat_template.

    `names` are the texts of bos_token and its like. Raises jinja2.TemplateError, or whatever the template raises.
    """
    if template in _refused:
        raise _refused[template]
    try:
        return _rendered(template, messages, add_generation_prompt, names)
    except (TooMuch, MemoryError) as error:
        _refused[template] = error
        raise


_refused: dict[str, Exception] = {}  # what took too much once takes it again


def _rendered(template: str, messages: list[Message], add_generation_prompt: bool, names: Mapping[str, str]) -> str:
    with limited(LONGEST_RENDERING):
        return _compiled(template).render(
            messages=messages, add_generation_prompt=add_generation_prompt, tools=None, documents=None, **names
        )


def mark_trained(template: str, messages: list[Message]) -> str:
    """The rendered conversation. The assistant's contents and the end of their turns, up to the line break, are marked."""
    text = render_chat(template, messages, add_generation_prompt=False)
    for index in reversed(range(len(messages))):
        if messages[index]["role"] != "assistant":
            continue
        start = len(render_chat(template, messages[:index], add_generation_prompt=True))
        end = len(render_chat(template, messages[: index + 1], add_generation_prompt=False))
        end = start + len(text[start:end].rstrip("\n"))
        text = text[:start] + TRAINED[0] + text[start:end] + TRAINED[1] + text[end:]
    return text.rstrip("\n")


def conversation(row: str, system: str | None) -> list[Message]:
    """A row as chat messages, with the spec's system text where it has none of its own."""
    messages = messages_of(row)
    if system is not None and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    return messages


def plain_text(row: str) -> str:
    """A row without template and roles: its texts, one after another."""
    return "\n".join(message["content"] for message in messages_of(row))


@cache
def _compiled(template: str) -> Template:
    return _environment().from_string(template)


@cache
def _environment() -> SandboxedEnvironment:
    from jinja2 import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> NoReturn:
        raise TemplateError(message)

    def strftime_now(form: str) -> str:
        return form  # a compiled folder is the same on every day

    def tojson(value: Any, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = strftime_now
    return environment
