"""Synthetic rules: the messages once for every combination of the variables, rendered with sandboxed Jinja."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from conversations.row import Row, plain_row
from specgen.diagnostics import Diagnostic
from specgen.limits import TooMuch, limited, told
from specgen.source import Node

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

MOST_COMBINATIONS = 200_000
LONGEST_COMPILING = 0.5  # seconds
ROWS_A_SECOND = 5_000  # far fewer than any honest rule makes
MOST_CHARACTERS = 1_000_000


def render_rows(synthetic: Node) -> tuple[list[Row], list[Diagnostic]]:
    """The rows of one rule, one for each combination (before `repeat`), or the faults in its texts."""
    variables = {name: [item.plain() for item in node.items] for name, node in synthetic.children["variables"].children.items()}
    combinations = math.prod(len(values) for values in variables.values())
    if combinations > MOST_COMBINATIONS:
        node = synthetic.children["variables"]
        message = f"the variables have {combinations:,} combinations; at most {MOST_COMBINATIONS:,} are allowed"
        return [], [Diagnostic(code="SG209", message=message, place=node.key or node.place)]
    messages = [next(iter(message.children.items())) for message in synthetic.children["messages"].items]
    if not any(role == "assistant" for role, _ in messages):
        node = synthetic.children["messages"]
        hint = 'add - assistant: "…"'
        return [], [
            Diagnostic(
                code="SG209",
                message="no message is from the assistant, so there is nothing to learn",
                place=node.key or node.place,
                hint=hint,
            )
        ]
    texts, faults = _compiled(messages)
    if faults:
        return [], faults
    rows: list[Row] = []
    with limited(1 + combinations / ROWS_A_SECOND):
        for values in itertools.product(*variables.values()):
            row, fault = _render(texts, dict(zip(variables, values, strict=True)))
            if fault:
                return [], [fault]
            rows.append(plain_row(row))
    return rows, []


def unused_variables(synthetic: Node) -> list[str]:
    """The variables that no message names. Empty where a message does not render."""
    from jinja2 import meta

    names = list(synthetic.children["variables"].children)
    if not names:
        return []
    texts = [str(node.value) for message in synthetic.children["messages"].items for node in message.children.values()]
    try:
        named = {name for text in texts if "{" in text for name in meta.find_undeclared_variables(_environment().parse(text))}
    except Exception:  # told where it is rendered
        return []
    return [name for name in names if name not in named] if named <= set(names) else []  # else one of them is misspelled


Render = Callable[[Mapping[str, Any]], str]


def _compiled(messages: list[tuple[str, Node]]) -> tuple[list[tuple[str, Node, Render]], list[Diagnostic]]:
    texts: list[tuple[str, Node, Render]] = []
    faults: list[Diagnostic] = []
    for role, node in messages:
        text = str(node.value)
        if "{" not in text:
            texts.append((role, node, lambda _values, text=text: text))  # type: ignore[misc]
            continue
        from jinja2 import TemplateSyntaxError

        try:
            with limited(LONGEST_COMPILING):  # constant expressions are worked out here
                texts.append((role, node, _environment().from_string(text).render))
        except (MemoryError, TooMuch) as error:
            faults.append(_render_fault(error, node, {}))
        except TemplateSyntaxError as error:
            faults.append(
                Diagnostic(
                    code="SG204",
                    message=f"the text does not render: {error.message}",
                    place=node.place,
                    hint="{{ name }} stands for a variable",
                )
            )
    return texts, faults


def _render(texts: list[tuple[str, Node, Render]], values: dict[str, Any]) -> tuple[list[tuple[str, str]], Diagnostic | None]:
    row: list[tuple[str, str]] = []
    for role, node, render in texts:
        try:
            text = render(values)
        except Exception as error:  # a template may raise anything
            return [], _render_fault(error, node, values)
        if len(text) > MOST_CHARACTERS:
            message = f"the text has {len(text):,} characters; at most {MOST_CHARACTERS:,} are allowed"
            return [], Diagnostic(code="SG204", message=message, place=node.place)
        if role == "assistant" and not text.strip():
            return [], Diagnostic(code="SG209", message="an assistant text is empty, so there is nothing to learn", place=node.place)
        row.append((role, text))
    return row, None


def _render_fault(error: Exception, node: Node, values: dict[str, Any]) -> Diagnostic:
    from jinja2 import UndefinedError

    problem = told(error)
    hint = None
    if isinstance(error, UndefinedError):
        missing = problem.split("'")[1] if problem.startswith("'") else ""
        near = difflib.get_close_matches(missing, values, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"the variables are {', '.join(values) or 'none'}"
    return Diagnostic(code="SG204", message=f"the text does not render: {problem}", place=node.place, hint=hint)


@cache
def _environment() -> SandboxedEnvironment:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
