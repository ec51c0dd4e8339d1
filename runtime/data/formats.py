"""Row formats: what a row has to look like, and the conversation that it stands for.

A conversation is a list of (role, content). A row of the text format is one such pair, of the role `text`. The compiler
checks the rows of files in the same way (specgen/facts/formats.py; a test compares them); rows from the hub are checked here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

ROLES = ("system", "user", "assistant")
SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "model": "assistant", "system": "system"}

Turns = list[tuple[str, str]]


def turns_of(row: object, form: str) -> tuple[Turns, list[str]]:
    """The conversation of a row, or what is wrong with the row."""
    if not isinstance(row, dict):
        return [], [f"the row is {kind(row)}; it has to be an object with {KEYS[form]}"]
    read, problems = READERS[form], []
    turns: Turns = []
    for where, role, content in read(row):
        if role is None:
            problems.append(f"{where}{content}")
        elif problem := _text_problem(role, content):
            problems.append(f"{where} {problem}")
        else:
            assert isinstance(content, str)
            turns.append((role, content))
    if not problems and not any(role in ("assistant", "text") for role, _ in turns):
        problems.append("no message is from the assistant, so there is nothing to learn")
    return turns, problems


# Each reader yields (where, role, content): a turn, whose content may still be no text; or, with role None, a fault.
Found = Iterator[tuple[str, str | None, object]]


def _openai(row: dict[str, object]) -> Found:
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        yield "", None, "the row has no messages" if "messages" not in row else "messages has to be a list of at least one message"
        return
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message, dict):
            yield where, None, f" is {kind(message)}; it has to be an object with role and content"
            continue
        role = message.get("role")
        if role not in ROLES:
            yield where, None, f".role is {json.dumps(role, ensure_ascii=False)}; it has to be {', '.join(ROLES)}"
        if "content" not in message:
            yield where, None, ".content is missing"
        else:
            yield f"{where}.content", role if role in ROLES else "user", message["content"]
        for key in [key for key in message if key not in ("role", "content")]:
            yield where, None, f".{key} is not understood, and would be lost"


def _sharegpt(row: dict[str, object]) -> Found:
    turns = row.get("conversations")
    if not isinstance(turns, list) or not turns:
        what = "the row has no conversations" if "conversations" not in row else "conversations has to be a list of at least one turn"
        yield "", None, what
        return
    if row.get("system") not in (None, ""):
        yield "system", "system", row["system"]
    for index, turn in enumerate(turns):
        where = f"conversations[{index}]"
        if not isinstance(turn, dict):
            yield where, None, f" is {kind(turn)}; it has to be an object with from and value"
            continue
        speaker = turn.get("from")
        role = SPEAKERS.get(speaker) if isinstance(speaker, str) else None
        if role is None:
            yield where, None, f".from is {json.dumps(speaker, ensure_ascii=False)}; it has to be {', '.join(SPEAKERS)}"
        if "value" not in turn:
            yield where, None, ".value is missing"
        else:
            yield f"{where}.value", role or "user", turn["value"]


def _alpaca(row: dict[str, object]) -> Found:
    if row.get("system") not in (None, ""):
        yield "system", "system", row["system"]
    history = row.get("history") or []
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        yield "history", None, " has to be a list of [question, answer] pairs"
        history = []
    for index, (question, answer) in enumerate(history):
        yield f"history[{index}][0]", "user", question
        yield f"history[{index}][1]", "assistant", answer
    instruction, given = row.get("instruction"), row.get("input")
    if isinstance(instruction, str) and isinstance(given, str) and given.strip():
        instruction = f"{instruction}\n{given}"
    elif given is not None and not isinstance(given, str):
        yield "input", None, f" is {kind(given)}; it has to be text"
    yield from _named(row, {"instruction": "user", "output": "assistant"}, {"instruction": instruction})


def _completion(row: dict[str, object]) -> Found:
    yield from _named(row, {"prompt": "user", "completion": "assistant"}, {})


def _text(row: dict[str, object]) -> Found:
    yield from _named(row, {"text": "text"}, {})


def _named(row: dict[str, object], roles: dict[str, str], instead: dict[str, object]) -> Found:
    for key, role in roles.items():
        if key not in row:
            yield "", None, f"the row has no {key}"
        else:
            yield key, role, instead.get(key, row[key])


READERS: dict[str, Callable[[dict[str, object]], Found]] = {
    "openai": _openai,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "completion": _completion,
    "text": _text,
}
KEYS = {
    "openai": "messages",
    "sharegpt": "conversations",
    "alpaca": "instruction and output",
    "completion": "prompt and completion",
    "text": "text",
}


def _text_problem(role: str, content: object) -> str | None:
    if not isinstance(content, str):
        return f"is {kind(content)}; it has to be text"
    try:
        content.encode("utf-8")
    except UnicodeEncodeError:
        return "holds half a surrogate pair"
    if role in ("assistant", "text") and not content.strip():
        return "is empty, so there is nothing to learn"
    return None


def kind(value: object) -> str:
    """A JSON value's type, for a sentence."""
    if value is None:
        return "null"
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return "text" if isinstance(value, str) else "a list" if isinstance(value, list) else "an object"
