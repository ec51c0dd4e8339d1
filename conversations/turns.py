"""One turn of a conversation: role and content, and what may stand beside them. Whatever would be lost or misread is a Problem."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from conversations.images import SOURCES, Images, with_break
from conversations.json_values import DECODER, is_plain, unfit
from conversations.problems import Problem, in_words, kind_of
from conversations.row import KEYS, Message

ROLES = {
    "system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool", "function": "tool",
}  # fmt: skip
REASONING = ("reasoning_content", "reasoning", "thinking")
SWITCHES = ("train", "training", "loss")  # ours; Axolotl's; XTuner's, which may be text
BESIDE = {"name", "tool_call_id", "tool_calls", "function_call", "weight", *REASONING, *SWITCHES}
MISSING = object()


class Faults(list[Problem]):
    """The problems of a row, as they are found."""

    def add(self, kind: str, path: str, text: str) -> None:
        """One more problem; `kind` is what equal ones are counted by."""
        self.append(Problem(kind, path, text))

    def told(self, value: object, path: str) -> None:
        """A value that a template writes out as it is, where it cannot be."""
        if why := unfit(value):
            self.add(f"a value that {why}", path, f"{path} {why}")

    def wrong(self, name: str, path: str, value: object, wanted: str) -> None:
        """A value of the wrong type."""
        self.add(f"{name} is {kind_of(value)}", path, f"{path} is {in_words(value)}; it has to be {wanted}")


def message_of(
    turn: Mapping[str, Any], path: str, role: str, text_key: str, faults: Faults, *, role_key: str = "role", images: Images | None = None
) -> Message:
    """A turn of a known role as a message. `path` is where the turn is in its row. `images` takes those of its parts."""
    message: Message = {"role": role, "content": ""}
    calls = _calls_of(turn, path, faults)
    reasoning = _only(turn, REASONING, path, faults)
    content, before = turn.get(text_key, MISSING), len(faults)
    if not (calls and (content is None or content is MISSING)):
        message["content"] = text_of(content, f"{path}.{text_key}", faults, images)
        if role == "assistant" and not (calls or reasoning or message["content"].strip()) and len(faults) == before:
            faults.add("an empty answer", f"{path}.{text_key}", f"{path}.{text_key} is empty, so there is nothing to learn")
    for key, value in (("reasoning_content", reasoning), ("tool_call_id", turn.get("tool_call_id")), ("name", turn.get("name"))):
        if value is not None:
            message[key] = text_of(value, f"{path}.{key}", faults)
    if calls:
        message["tool_calls"] = calls
    if (train := _switch(turn, path, faults)) is not None:
        message["train"] = train
    if (weight := turn.get("weight")) is not None:
        message["weight"] = _weight(weight, f"{path}.weight", faults)
    for key, value in turn.items():
        if key not in BESIDE and key not in (role_key, text_key) and value is not None:
            faults.add("an unknown key", f"{path}.{key}", f"{path}.{key} is not understood, and would be lost")
    return {key: message[key] for key in KEYS if key in message}


def text_of(content: object, path: str, faults: Faults, images: Images | None = None) -> str:
    """A text, or the texts of a list of parts, joined without anything between them. A part that is an image, where there may be some,
    is <image>, with a line break between it and a text."""
    if content is MISSING:
        faults.add(f"{path.rpartition('.')[2]} is missing", path, f"{path} is missing")
        return ""
    if isinstance(content, list) and content:
        return _joined_parts(content, path, faults, images)
    if not isinstance(content, str):
        faults.wrong("content", path, content, "text")
        return ""
    if not content.isascii():
        try:
            content.encode()
        except UnicodeEncodeError:
            faults.add("half a surrogate pair", path, f"{path} holds half a surrogate pair")
    return content


def _joined_parts(parts: list[Any], path: str, faults: Faults, images: Images | None) -> str:
    text = ""
    for index, part in enumerate(parts):
        if images is not None and isinstance(part, dict) and part.get("type") in SOURCES:
            text = with_break(text, images.of_part(part, f"{path}[{index}]", faults), image=True)
        else:
            text = with_break(text, _part(part, f"{path}[{index}]", faults), image=False)
    return text


def _part(part: object, path: str, faults: Faults) -> str:
    if not isinstance(part, dict):
        faults.wrong("a part", path, part, "an object with type and text")
        return ""
    kind = part.get("type")
    if kind != "text":
        named = "no type" if kind is None else f"the type {kind}"
        faults.add(f"a part of {named}", path, f"{path} has {named}; only parts of the type text can be trained on")
        return ""
    if lost := next((key for key, value in part.items() if key not in ("type", "text") and value is not None), None):
        faults.add("an unknown key", f"{path}.{lost}", f"{path}.{lost} is not understood, and would be lost")
    return text_of(part.get("text", MISSING), f"{path}.text", faults)


def _calls_of(turn: Mapping[str, Any], path: str, faults: Faults) -> list[dict[str, Any]]:
    """The tool calls of a turn in one form; of an older one, too: function_call."""
    calls, old = turn.get("tool_calls"), turn.get("function_call")
    if old is not None:
        calls, path = [old], f"{path}.function_call"
    elif calls is None:
        return []
    elif not isinstance(calls, list):
        faults.wrong("tool_calls", f"{path}.tool_calls", calls, "a list of calls")
        return []
    else:
        path = f"{path}.tool_calls"
    return [call_of(call, path if old is not None else f"{path}[{index}]", faults) for index, call in enumerate(calls)]


def call_of(call: object, path: str, faults: Faults) -> dict[str, Any]:
    """A tool call in OpenAI's form, its arguments as an object. Also read: name and arguments without `function` around them."""
    if not isinstance(call, dict):
        faults.wrong("a tool call", path, call, "an object with function")
        return {}
    function = call.get("function", call)
    if not isinstance(function, dict):
        faults.wrong("function", f"{path}.function", function, "an object with name and arguments")
        return {}
    inside = path if function is call else f"{path}.function"
    name, arguments = function.get("name"), function.get("arguments")
    if not isinstance(name, str) or not name:
        faults.wrong("the name of a call", f"{inside}.name", name, "text")
    if call.get("type", "function") != "function":
        kind = json.dumps(call["type"], default=str)
        faults.add("a call of no function", f"{path}.type", f"{path}.type is {kind}; only function is known")
    identity = {"id": call["id"]} if call.get("id") is not None else {}
    arguments = _object(arguments, f"{inside}.arguments", faults)
    found = {**identity, "type": "function", "function": {"name": name, "arguments": arguments}}
    faults.told(found, path)
    return found


def _object(value: object, path: str, faults: Faults) -> object:
    if isinstance(value, str):
        try:
            value = DECODER.decode(value) if value.strip() else {}
        except (ValueError, RecursionError):
            faults.add("arguments that are not JSON", path, f"{path} is text that is not JSON")
            return {}
    if value is None:
        return {}
    if not isinstance(value, dict):
        faults.wrong("arguments", path, value, "an object, or one as JSON text")
    return value


def tools_of(tools: object, path: str, faults: Faults) -> list[Any]:
    """The tools of a row in OpenAI's form: a list, or one as JSON text. Also read: functions without `function` around them."""
    tools = listed(tools)
    if tools is None or tools == "":
        return []
    if not isinstance(tools, list):
        faults.wrong("tools", path, tools, "a list of tools")
        return []
    plain = is_plain(tools)
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict):
            faults.wrong("a tool", f"{path}[{index}]", tool, "an object")
        elif not plain:
            faults.told(tool, f"{path}[{index}]")
    return [{"type": "function", "function": tool} if isinstance(tool, dict) and "function" not in tool else tool for tool in tools]


def listed(value: object) -> object:
    """A list that is written as JSON text, as columns of CSV and of Parquet often are; any other value as it is."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return DECODER.decode(value)
        except (ValueError, RecursionError):
            return value
    return value


def _only(turn: Mapping[str, Any], names: Iterable[str], path: str, faults: Faults) -> Any:
    """The value of whichever of several names is there."""
    found = {name: turn[name] for name in names if turn.get(name) is not None}
    if len(set(map(repr, found.values()))) > 1:
        faults.add("two names for one thing", path, f"{path} has {' and '.join(found)}, which say different things")
    return next(iter(found.values()), None)


def _switch(turn: Mapping[str, Any], path: str, faults: Faults) -> bool | None:
    value = _only(turn, SWITCHES, path, faults)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if value is None or isinstance(value, bool):
        return value
    name = next(name for name in SWITCHES if turn.get(name) is not None)
    faults.wrong(name, f"{path}.{name}", value, "true or false")
    return None


def _weight(value: object, path: str, faults: Faults) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        faults.wrong("weight", path, value, "a number, 0 or more")
        return 1.0
    return float(value)
