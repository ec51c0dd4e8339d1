"""The tools of a chat: what a model is told of them, and what a call of one gives back."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from runtime.plugins.calculator import calculate
from runtime.plugins.expressions import Unfit
from runtime.plugins.solver import solve
from runtime.plugins.web_search import provider, search

LONGEST = 4000  # letters of a result
MARKS = re.compile(r"<(?=[|/]|eo[a-z]>|tool_|function|s>)|\[(?=/?(?:TOOL_|INST|AVAILABLE_))")
OTHERS = {"<": "‹", "[": "("}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool with one text as its argument. `moss` is its name in MOSS's format."""

    name: str
    moss: str
    argument: str
    description: str
    example: str
    use: Callable[[str], str]

    def told(self) -> dict[str, Any]:
        """The tool in OpenAI's form, which chat templates know."""
        properties = {self.argument: {"type": "string", "description": self.example}}
        parameters = {"type": "object", "properties": properties, "required": [self.argument]}
        return {"type": "function", "function": {"name": self.name, "description": self.description, "parameters": parameters}}


TOOLS = {
    tool.name: tool
    for tool in (
        Tool(
            name="calculate",
            moss="Calculate",
            argument="expression",
            description="Evaluates an arithmetic expression.",
            example="such as (3 + 4) * 2^10",
            use=calculate,
        ),
        Tool(
            name="solve",
            moss="Solve",
            argument="equation",
            description="Solves an equation, or several with commas between them.",
            example="such as x^2 - 5x + 6 = 0",
            use=solve,
        ),
        Tool(
            name="search",
            moss="Search",
            argument="query",
            description="Searches the web.",
            example="what to search for",
            use=search,
        ),
    )
}


def chosen(names: Sequence[str]) -> list[Tool]:
    """The tools of these names. Raises RunFault where search has no provider."""
    if "search" in names:
        provider()
    return [TOOLS[name] for name in names]


def used(tools: Sequence[Tool], name: str, argument: object) -> str:
    """What a call gives back: the result, or what was wrong with it, in words without marks that a template has."""
    tool = next((tool for tool in tools if name in (tool.name, tool.moss)), None)
    if tool is None:
        return f"error: there is no tool {harmless(name)}"
    if not isinstance(argument, str) or not argument.strip():
        return f"error: {tool.name} takes a text, {tool.argument}"
    try:
        return harmless(tool.use(argument))
    except Unfit as unfit:
        return harmless(f"error: {unfit}")


def harmless(text: str) -> str:
    """A result that can pass for no control token: its opening signs are others. A long one is cut."""
    text = MARKS.sub(lambda found: OTHERS[found[0]], text)
    return text if len(text) <= LONGEST else text[:LONGEST] + " … (cut)"
