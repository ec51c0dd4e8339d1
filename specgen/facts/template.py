"""Chat templates, as far as the compiler goes: which one, and whether it renders."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

from specgen.places import data_folder

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment


def shipped_templates() -> dict[str, str]:
    """Name → Jinja text of the chat templates that come with specgen."""
    folder = data_folder("chat_templates")
    return {file.stem: file.read_text(encoding="utf-8").rstrip("\n") for file in sorted(folder.glob("*.jinja"))}


def render_chat(template: str, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
    """A conversation as text, by the conventions of transformers' apply_chat_template.

    Special tokens that only the tokenizer knows render as their names. Raises jinja2.TemplateError, or whatever the
    template raises.
    """
    names = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return (
        _environment()
        .from_string(template)
        .render(messages=messages, add_generation_prompt=add_generation_prompt, tools=None, documents=None, **names)
    )


@cache
def _environment() -> SandboxedEnvironment:
    from jinja2 import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> NoReturn:
        raise TemplateError(message)

    def tojson(value: Any, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    return environment
