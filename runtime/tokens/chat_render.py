"""Chat templates as text: compiled once, with what transformers (5.23) gives a template, and without its price for each call.

Needs neither transformers nor PyTorch: the processes that tokenize start in a fraction of a second.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from conversations.generation_tag import END, START, MarkedGeneration, spans
from conversations.row import Message
from runtime.faults import WRONG, RunFault

Span = tuple[int, int]
MOST_ATTRIBUTES = 1000  # a template may make up names


class ChatTemplate:
    """A template, or a pair of them: `tool_use` is for conversations with tools. `names` are texts such as bos_token's."""

    def __init__(self, templates: Mapping[str, str], names: Mapping[str, str]) -> None:
        try:
            self._compiled = {name: _environment().from_string(text) for name, text in templates.items()}
        except TemplateError as error:
            raise RunFault("SG203", f"the chat template is no valid Jinja: {error}", exit_code=WRONG) from None
        for compiled in self._compiled.values():
            compiled.globals = dict(compiled.globals)  # Jinja's chain of dicts is walked through in each rendering
        # what every rendering sees, merged once: Jinja would do that again for each
        self._seen = {name: {**compiled.globals, "documents": None, **names} for name, compiled in self._compiled.items()}

    def render(self, messages: Sequence[Message], tools: object = None, *, prompt: bool = False) -> str:
        """The text of a conversation; with `prompt`, up to where the assistant is to speak. Raises RunFault."""
        text = self._render(messages, tools, prompt)
        return text.replace(START, "").replace(END, "") if START in text else text

    def render_marked(self, messages: Sequence[Message], tools: object = None) -> tuple[str, list[Span]]:
        """The text, and where {% generation %} stands around it: [start, end) in characters. Raises RunFault."""
        return spans(self._render(messages, tools, False))

    def _render(self, messages: Sequence[Message], tools: object, prompt: bool) -> str:
        name = "tool_use" if tools and "tool_use" in self._compiled else "default"
        template, seen = self._compiled[name], self._seen[name]
        try:
            context = template.new_context({**seen, "messages": messages, "tools": tools, "add_generation_prompt": prompt}, shared=True)
            return "".join(template.root_render_func(context))
        except (TemplateError, TypeError, ValueError, AttributeError, KeyError, IndexError, ArithmeticError) as error:
            raise RunFault("SG203", f"the chat template does not render this conversation: {error}", exit_code=WRONG) from None


def as_seen(messages: Sequence[Message]) -> list[Message]:
    """Messages as templates expect them: reasoning also under the name that gpt-oss reads, as transformers has it."""
    return [{"thinking": message["reasoning_content"], **message} if "reasoning_content" in message else message for message in messages]


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox. Whether an attribute may be had hangs on its name and on what it is of: asked once for each, not for each row."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._safe: dict[tuple[type, str], bool] = {}

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        key = type(obj), attr
        safe = self._safe.get(key)
        if safe is None:
            safe = super().is_safe_attribute(obj, attr, value)
            if len(self._safe) < MOST_ATTRIBUTES:
                self._safe[key] = safe
        return safe


def _environment() -> ImmutableSandboxedEnvironment:
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[MarkedGeneration, loopcontrols])
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    from datetime import datetime

    return datetime.now().strftime(form)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own would escape HTML
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
