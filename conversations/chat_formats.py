"""Rows that are lists of turns: OpenAI's messages, and ShareGPT's turns with their many names."""

from __future__ import annotations

import json
from typing import Any

from conversations.json_values import DECODER
from conversations.reading import Reading
from conversations.turns import MISSING, ROLES, Faults, call_of, message_of, text_of, tools_of

SPEAKERS = {
    "system": "system", "developer": "system",
    "human": "user", "user": "user", "prompter": "user",
    "gpt": "assistant", "assistant": "assistant", "model": "assistant", "bot": "assistant", "chatgpt": "assistant", "bing": "assistant",
    "function_call": "function_call", "tool_call": "function_call",
    "observation": "tool", "tool": "tool", "tool_response": "tool", "function": "tool",
}  # fmt: skip
SPEECH = (("from", "value"), ("role", "content"), ("speaker", "text"))
UNREAD = {"name": "unread", "arguments": {}}  # stands for a call whose fault has been told
LISTS = ("conversations", "conversation", "messages", "dialog", "dialogue")


def openai(reading: Reading) -> None:
    """Reads a row with `messages`, and `tools` or the older `functions`."""
    for index, message in enumerate(reading.turns("messages")):
        openai_message(reading, message, f"{reading.name('messages')}[{index}]")
    reading.tools = tools_of(reading.get("tools"), reading.name("tools"), reading.faults)
    if not reading.tools:
        reading.tools = tools_of(reading.get("functions"), "functions", reading.faults)
    reading.see()


def openai_message(reading: Reading, message: object, path: str) -> None:
    """Reads one message; what is wrong with it goes to the faults."""
    if not isinstance(message, dict):
        reading.faults.wrong("a message", path, message, "an object with role and content")
        return
    said = message.get("role")
    role = ROLES.get(said) if isinstance(said, str) else None
    if role is None:
        known = ", ".join(ROLES)
        what = json.dumps(said, ensure_ascii=False, default=str) if "role" in message else "missing"
        reading.faults.add("an unknown role", f"{path}.role", f"{path}.role is {what}; it has to be one of {known}")
    reading.messages.append(message_of(message, path, role or "user", "content", reading.faults, images=reading.images))


def sharegpt(reading: Reading) -> None:
    """Reads a row with `conversations` (`from`, `value`), `system` and `tools`."""
    column = next((name for name in LISTS if reading.get(name) is not None), "conversations")
    reading.say("system", "system", optional=True)
    for index, turn in enumerate(reading.turns(column)):
        _sharegpt_turn(reading, turn, f"{reading.name(column)}[{index}]")
    reading.tools = tools_of(reading.get("tools"), reading.name("tools"), reading.faults)
    reading.see()


def _sharegpt_turn(reading: Reading, turn: object, path: str) -> None:
    if not isinstance(turn, dict):
        reading.faults.wrong("a turn", path, turn, "an object with from and value")
        return
    who, what = next((pair for pair in SPEECH if pair[0] in turn), SPEECH[0])
    speaker = turn.get(who)
    role = SPEAKERS.get(speaker) or SPEAKERS.get(speaker.lower()) if isinstance(speaker, str) else None
    if role is None:
        said = json.dumps(speaker, ensure_ascii=False, default=str) if who in turn else "missing"
        reading.faults.add("an unknown speaker", f"{path}.{who}", f"{path}.{who} is {said}; it has to be one of {', '.join(SPEAKERS)}")
    if role == "function_call":
        calls = _calls(turn.get(what, MISSING), f"{path}.{what}", reading.faults)
        turn, role = {**turn, what: "", "tool_calls": calls}, "assistant"
    reading.messages.append(message_of(turn, path, role or "user", what, reading.faults, role_key=who, images=reading.images))


def _calls(value: object, path: str, faults: Faults) -> list[Any]:
    """The tool calls that a turn's text is the JSON of: one, or a list."""
    text = text_of(value, path, faults)
    try:
        found = DECODER.decode(text)
    except (ValueError, RecursionError):
        faults.add("a call that is not JSON", path, f"{path} is not JSON; a call is an object with name and arguments")
        return [UNREAD]
    calls = found if isinstance(found, list) else [found]
    return [call_of(call, path, faults) for call in calls]
