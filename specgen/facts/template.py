"""Chat templates, as far as the compiler goes: which one, and whether it renders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from conversations import begin_of_text
from conversations.row import Message
from specgen.limits import TooMuch, limited

if TYPE_CHECKING:
    from jinja2 import Template
    from jinja2.sandbox import SandboxedEnvironment

LONGEST_RENDERING = 0.5  # seconds
# stand for control tokens whose texts only the tokenizer knows
NAMES = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}


def render_chat(
    template: str,
    messages: list[Message],
    *,
    add_generation_prompt: bool,
    names: Mapping[str, str] = NAMES,
    tools: list[Any] | None = None,
) -> str:
    """A conversation as text, by the conventions of transformers' apply_chat_template.

    `names` are the texts of bos_token and its like. Raises jinja2.TemplateError, or whatever the template raises.
    """
    return _spoken(template, messages, add_generation_prompt, names, tools)[0]


def render_spoken(template: str, messages: list[Message], *, tools: list[Any] | None = None) -> tuple[str, list[tuple[int, int]]]:
    """The same of a whole conversation, and where in it {% generation %} stands around the text: [start, end) in characters."""
    return _spoken(template, messages, False, NAMES, tools)


def _spoken(
    template: str, messages: list[Message], add_generation_prompt: bool, names: Mapping[str, str], tools: list[Any] | None
) -> tuple[str, list[tuple[int, int]]]:
    if template in _refused:
        raise _refused[template]
    try:
        from conversations.generation_tag import spans

        return spans(_rendered(template, messages, add_generation_prompt, names, tools))
    except (TooMuch, MemoryError) as error:
        _refused[template] = error
        raise


_refused: dict[str, Exception] = {}  # what took too much once takes it again


def _rendered(
    template: str, messages: list[Message], add_generation_prompt: bool, names: Mapping[str, str], tools: list[Any] | None
) -> str:
    try:
        return _rendered_once(template, json.dumps([messages, names, tools]), add_generation_prompt)
    except (TypeError, RecursionError):  # the template's own, or a row that is not what JSON holds
        return _by_jinja(template, messages, add_generation_prompt, names, tools)


@lru_cache(maxsize=1000)
def _rendered_once(template: str, asked: str, add_generation_prompt: bool) -> str:
    """Several checks ask for the same texts, and the trials of a sweep for those of its spec."""
    messages, names, tools = json.loads(asked)
    return _by_jinja(template, messages, add_generation_prompt, names, tools)


def _by_jinja(
    template: str, messages: list[Message], add_generation_prompt: bool, names: Mapping[str, str], tools: list[Any] | None
) -> str:
    with limited(LONGEST_RENDERING):
        return _compiled(template).render(
            messages=messages, add_generation_prompt=add_generation_prompt, tools=tools, documents=None, **names
        )


@cache
def in_use(template: str, *, bos: str | None, adds_bos: bool) -> str:
    """The template as the runtime uses it with a tokenizer that has this bos_token (conversations/begin_of_text.py)."""
    turns: list[Message] = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    try:
        text = render_chat(template, turns, add_generation_prompt=False, names={**NAMES, "bos_token": bos or ""})
    except Exception:  # a template may raise anything, which is told elsewhere
        return template
    return begin_of_text.in_use(template, adds_bos=bool(bos) and adds_bos, begins=text.startswith(bos or ""))


@cache
def _compiled(template: str) -> Template:
    return _environment().from_string(template)


@cache
def _environment() -> SandboxedEnvironment:
    from jinja2 import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    from conversations.generation_tag import MarkedGeneration

    def raise_exception(message: str) -> NoReturn:
        raise TemplateError(message)

    def strftime_now(form: str) -> str:
        return form  # a compiled folder is the same on every day

    def tojson(value: Any, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[MarkedGeneration, loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = strftime_now
    return environment
