"""specgen list --templates: the chat templates that come along."""

from __future__ import annotations

import json

from conversations.templates import ChatTemplate, library


def matching(patterns: tuple[str, ...]) -> list[ChatTemplate]:
    """The templates that have every pattern in their name, description or models."""
    return [template for template in library().values() if all(pattern.lower() in _words(template) for pattern in patterns)]


def as_table(found: list[ChatTemplate]) -> str:
    """A line for each: name, models, form of a turn."""
    widths = [max((len(cell) for cell in column), default=0) for column in ([t.name for t in found], [t.models for t in found])]
    return "\n".join(f"{t.name:<{widths[0]}}  {t.models:<{widths[1]}}  {t.description}" for t in found)


def as_json(found: list[ChatTemplate]) -> str:
    """The same for other programs."""
    keys = ("name", "description", "models", "base", "stop", "system", "rewrites_earlier_turns", "source")
    return json.dumps([{key: getattr(template, key) for key in keys} for template in found], ensure_ascii=False, indent=2)


def _words(template: ChatTemplate) -> str:
    return f"{template.name} {template.description} {template.models}".lower()
