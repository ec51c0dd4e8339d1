"""The chat templates that come along: chat_templates/NAME.jinja, and what is to be said of each in chat_templates/index.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "chat_templates"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatTemplate:
    """A template of the library. `stop` are texts that end an answer, beside the tokenizer's own end of text.

    `base` says whether it is good for models that have never seen a chat, `system` where a system text stands, and
    `rewrites_earlier_turns` whether a turn looks otherwise once another follows.
    """

    name: str
    jinja: str
    description: str
    models: str
    base: bool
    stop: tuple[str, ...]
    system: str
    rewrites_earlier_turns: bool
    source: str


@cache
def library() -> dict[str, ChatTemplate]:
    """Name → template, in the order of the index."""
    import yaml

    index = yaml.safe_load((FOLDER / "index.yaml").read_text(encoding="utf-8"))
    return {name: ChatTemplate(name=name, jinja=_text(name), **{**entry, "stop": tuple(entry["stop"])}) for name, entry in index.items()}


def comes_along(jinja: str) -> bool:
    """Whether a template's text is one of the library's."""
    return any(template.jinja == jinja for template in library().values())


def _text(name: str) -> str:
    return (FOLDER / f"{name}.jinja").read_text(encoding="utf-8").rstrip("\n")
