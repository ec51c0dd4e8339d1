"""Rows of any shape, by Jinja: a template for each role, or one that renders to JSON of the format. The columns are its variables.

Templates run in a sandbox. A column that is not there, null, a list or an object does not become text by accident.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, StrictUndefined, TemplateSyntaxError, UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from conversations.images import COLUMNS, Images, count_faults
from conversations.json_values import DECODER
from conversations.problems import Problem, in_words
from conversations.row import Conversation
from conversations.turns import Faults, listed, text_of

Found = tuple[Conversation, list[Problem]]
Render = Callable[[Mapping[str, Any]], str]
BLANK_ROLES = ("system", "tool")  # a turn of these that renders blank is left out: the row has none


class _NoText(Exception):
    pass


def reader(row: tuple[tuple[str, str], ...] | str, of_format: Callable[[object], Found], folder: str | None) -> Callable[[object], Found]:
    """Reads rows by a template; `folder` is where relative paths of images start, None where there may be none. What a template says
    of the turns, the columns images and image say of the images. Raises TemplateSyntaxError where it is none."""
    if isinstance(row, str):
        render = _compiled(row)
        return lambda columns: _by_json(columns, render, of_format)
    turns = [(role, _compiled(text)) for role, text in row]
    return lambda columns: _by_turns(columns, turns, folder)


def syntax_fault(row: tuple[tuple[str, str], ...] | str) -> tuple[int | None, str] | None:
    """The first turn (None for a single template) whose Jinja is wrong, and what is wrong."""
    texts: list[tuple[int | None, str]] = [(None, row)] if isinstance(row, str) else [(i, text) for i, (_, text) in enumerate(row)]
    for index, text in texts:
        try:
            _compiled(text)
        except TemplateSyntaxError as error:
            return index, error.message or "syntax error"
    return None


def _by_turns(columns: object, turns: list[tuple[str, Render]], folder: str | None) -> Found:
    if problem := _no_columns(columns):
        return {}, [problem]
    assert isinstance(columns, dict)
    faults, messages = Faults(), []
    for index, (role, render) in enumerate(turns):
        path = f"row[{index}].{role}"
        rendered = _rendered(columns, render, path)
        if isinstance(rendered, Problem):
            faults.append(rendered)
        elif role == "assistant" and not rendered.strip():
            faults.add("an empty answer", path, f"{path} renders to nothing, so there is nothing to learn")
        elif rendered.strip() or role not in BLANK_ROLES:
            messages.append({"role": role, "content": text_of(rendered, path, faults)})
    if not faults and not any(message["role"] == "assistant" for message in messages):
        faults.add("no answer", "", "no message is from the assistant, so there is nothing to learn")
    if faults or folder is None:
        return {"messages": messages}, faults
    images = Images(folder)
    images.of_columns({name: listed(columns.get(name)) for name in COLUMNS}, faults)
    if not faults:
        faults += count_faults(messages, [], images.found)
    return {"messages": messages, **({"images": images.found} if images.found else {})}, faults


def _by_json(columns: object, render: Render, of_format: Callable[[object], Found]) -> Found:
    if problem := _no_columns(columns):
        return {}, [problem]
    assert isinstance(columns, dict)
    rendered = _rendered(columns, render, "row")
    if isinstance(rendered, Problem):
        return {}, [rendered]
    try:
        return of_format(DECODER.decode(rendered))
    except json.JSONDecodeError as error:
        text = f"row does not render to JSON: {error.msg} at line {error.lineno} column {error.colno}; write {{{{ column | tojson }}}}"
        return {}, [Problem("a template that is not JSON", "row", text)]
    except (ValueError, RecursionError) as error:
        return {}, [Problem("a template that is not JSON", "row", f"row does not render to JSON: {error}")]


def _no_columns(columns: object) -> Problem | None:
    if isinstance(columns, Problem):
        return columns
    if isinstance(columns, dict):
        return None
    return Problem("no object", "", f"the row is {in_words(columns)}; it has to be an object, whose columns the template names")


def _rendered(columns: dict[str, Any], render: Render, path: str) -> str | Problem:
    try:
        return render({"row": columns, **columns})
    except _NoText as error:
        return Problem(f"{error} in a template", path, f"{path} writes {error} as text; | tojson writes it as JSON")
    except UndefinedError as error:
        shown = ", ".join(list(columns)[:12])
        return Problem("a name that is not there", path, f"{path} does not render: {error.message}; the columns are {shown}")
    except Exception as error:  # whatever Jinja and the values' methods raise
        return Problem("a template that does not render", path, f"{path} does not render: {error}")


@cache
def _compiled(text: str) -> Render:
    if "{" not in text:  # Jinja would change line ends of a text that asks nothing of it
        return lambda _columns: text
    return _environment().from_string(text).render


@cache
def _environment() -> Environment:
    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True, finalize=_text)


def _text(value: Any) -> Any:
    if value is None or isinstance(value, bool | list | dict | bytes):
        raise _NoText(in_words(value))
    return value
