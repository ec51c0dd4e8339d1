"""Turns whose texts are Jinja: the prompts, the rows and the judge's questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from runtime.config import TurnRule

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

Turns = Callable[[Mapping[str, Any]], list[dict[str, str]]]


def turns(rules: Sequence[TurnRule]) -> Turns:
    """Renders turns from values, as messages. A system text that comes to nothing is left out. Raises what Jinja raises."""
    renders = [(rule.role, _render(rule.content)) for rule in rules]

    def rendered(values: Mapping[str, Any]) -> list[dict[str, str]]:
        messages = [{"role": role, "content": render(values)} for role, render in renders]
        return [message for message in messages if message["role"] != "system" or message["content"]]

    return rendered


def _render(text: str) -> Callable[[Mapping[str, Any]], str]:
    if "{" not in text:  # Jinja would change line ends of a text that asks nothing of it
        return lambda _values: text
    return _environment().from_string(text).render


@cache
def _environment() -> SandboxedEnvironment:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Environment(ImmutableSandboxedEnvironment):
        def getattr(self, obj: Any, attribute: str) -> Any:
            """answer.items is the key of that name where there is one, and not the method of a mapping."""
            return obj[attribute] if isinstance(obj, dict) and attribute in obj else super().getattr(obj, attribute)

    return Environment(undefined=StrictUndefined, keep_trailing_newline=True)
