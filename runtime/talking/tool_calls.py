"""Tool calls in what a model writes: the shapes that models of the known families are trained on, read as names and arguments.

| shape | who writes it |
|---|---|
| `<tool_call>{"name": …, "arguments": {…}}</tool_call>` | Hermes, Qwen 2.5 and 3, SmolLM3 |
| `<tool_call><function=NAME><parameter=KEY>VALUE</parameter></function></tool_call>` | Qwen 3.5, Qwen coders |
| `<function=NAME>{…}</function>` | Llama 3.1 |
| `[TOOL_CALLS] [{…}]`, `[TOOL_CALLS]NAME[ARGS]{…}` | Mistral |
| `<|action_start|><|plugin|>{…}<|action_end|>` | InternLM2 |
| `{"name": …, "parameters": {…}}` on a line of its own, or a list of such | Llama 3, maybe behind `<|python_tag|>` |

Marks that are special tokens are not in an answer's text: what they stand before is then found by the last shape.
A call is one only if it names a tool that was offered: an answer in JSON stays an answer. So does a call that nobody could be told again,
with half a surrogate pair in it, or NaN.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from conversations.json_values import DECODER, unfit

MARKS = ("<tool_call>", "<function=", "[TOOL_CALLS]", "<|action_start|>", "<|python_tag|>")
OPENING = re.compile("|".join(map(re.escape, MARKS)) + r"|(?:^|(?<=\n))[ \t]*(?=\{\s*\"|\[\s*\{)")
UNSURE = re.compile(r"(?:\s+|(?:^|\n)\s*(?:\{\s*|\[\s*)?)$")  # white space, or what may become a call on a line of its own
FUNCTION = re.compile(r"<function=([^>\n]+)>")
PARAMETER = re.compile(r"<parameter=([^>\n]+)>\s*(.*?)\s*</parameter>", re.DOTALL)
NAME = re.compile(r"([\w.-]+)(?:\[CALL_ID\][\w-]*)?(?:\[ARGS\])?")
BEFORE = re.compile(r"(?:\s|<\|plugin\|>|<\|interpreter\|>)*")
BEHIND = re.compile(r"(?:\s|;|</function>|</tool_call>|<\|action_end\|>|<\|eom_id\|>)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call of a tool, its arguments as an object."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """An answer: what is said, and what is called."""

    text: str
    calls: tuple[ToolCall, ...]


def names_of(tools: Iterable[Mapping[str, Any]] | None) -> frozenset[str]:
    """The names of tools in OpenAI's form."""
    return frozenset(str(tool.get("function", tool).get("name")) for tool in tools or ())


def parse(text: str, names: Collection[str]) -> Spoken:
    """An answer taken apart. What is no call of one of `names` is text; white space around calls goes."""
    calls: list[ToolCall] = []
    said: list[str] = []
    at = done = 0
    while found := OPENING.search(text, at):
        read = _calls_at(text, found, names)
        if read is None:
            at = max(found.end(), found.start() + 1)
            continue
        said.append(text[done : found.start()].rstrip() if not said else text[done : found.start()].strip())
        calls += read[0]
        at = done = read[1]
    if not calls:
        return Spoken(text=text, calls=())
    return Spoken(text="\n".join(piece for piece in (*said, text[done:].strip()) if piece), calls=tuple(calls))


class ToolCallStream:
    """An answer that comes in pieces. What may be a call is held back until the answer is over."""

    def __init__(self, names: Collection[str]) -> None:
        self.names, self.text, self.shown = names, "", 0

    def feed(self, piece: str) -> str:
        """The text that can be shown now; empty while it may belong to a call."""
        self.text += piece
        opening = OPENING.search(self.text, self.shown)
        end = opening.start() if opening else self._sure()
        end -= len(self.text[self.shown : end]) - len(self.text[self.shown : end].rstrip())  # goes where a call follows
        return self._show(end)

    def flush(self) -> Spoken:
        """When nothing more comes: the text that was held back, and the calls."""
        spoken = parse(self.text, self.names)
        if not spoken.calls:
            return Spoken(text=self._show(len(self.text)), calls=())
        assert spoken.text.startswith(self.text[: self.shown]), "what was shown stands before the first call"
        return Spoken(text=spoken.text[self.shown :], calls=spoken.calls)

    def _show(self, end: int) -> str:
        piece, self.shown = self.text[self.shown : end], max(end, self.shown)
        return piece

    def _sure(self) -> int:
        """Where the longest end of the text begins that may be the beginning of a call."""
        unsure = UNSURE.search(self.text, self.shown)
        ends = [unsure.start() if unsure else len(self.text)]
        for mark in MARKS:
            ends += [len(self.text) - length for length in range(1, len(mark)) if self.text.endswith(mark[:length])]
        return max(self.shown, min(ends))


def _calls_at(text: str, opening: re.Match[str], names: Collection[str]) -> tuple[list[ToolCall], int] | None:
    """The calls that begin at an opening, and where they end; None where there is none."""
    mark, at = opening.group(), opening.end()
    if mark == "<function=" or text.startswith("<function=", _behind(BEFORE, text, at)):
        return _function_at(text, opening.start() if mark == "<function=" else _behind(BEFORE, text, at), names)
    at = _behind(BEFORE, text, at)
    if mark == "[TOOL_CALLS]" and (named := NAME.match(text, at)) and text[named.end() : named.end() + 1] == "{":
        arguments, end = _json_at(text, named.end())
        return _offered([{"name": named[1], "arguments": arguments}], names, _behind(BEHIND, text, end))
    values: list[Any] = []
    while True:
        value, end = _json_at(text, at)
        if end == at:
            break
        values += value if isinstance(value, list) else [value]
        at = _behind(BEHIND, text, end)
        if not text.startswith("{", at):
            break
    if not mark.strip() and at < len(text) and not text[:at].endswith(("\n", ">", ";")):
        return None  # more words on its line
    return _offered(values, names, at)


def _function_at(text: str, at: int, names: Collection[str]) -> tuple[list[ToolCall], int] | None:
    """A call whose name stands in its mark; its arguments are JSON or parameters one by one."""
    head = FUNCTION.match(text, at)
    if head is None:
        return None
    arguments, end = _json_at(text, _behind(BEFORE, text, head.end()))
    if end == _behind(BEFORE, text, head.end()):
        close = text.find("</function>", end)
        close = len(text) if close < 0 else close
        found = list(PARAMETER.finditer(text, end, close))
        arguments, end = {parameter[1]: _value(parameter[2]) for parameter in found}, close
    return _offered([{"name": head[1].strip(), "arguments": arguments}], names, _behind(BEHIND, text, end))


def _offered(values: list[Any], names: Collection[str], end: int) -> tuple[list[ToolCall], int] | None:
    calls = [_call(value) for value in values]
    if not calls or any(call is None or call.name not in names for call in calls):
        return None
    return [call for call in calls if call], end


def _call(value: object) -> ToolCall | None:
    if not isinstance(value, dict):
        return None
    inner = value.get("function", value)
    if not isinstance(inner, dict):
        return None
    name, arguments = inner.get("name"), inner.get("arguments", inner.get("parameters"))
    if isinstance(arguments, str):
        arguments, _ = _json_at(arguments, 0) if arguments.strip() else ({}, 0)
    if arguments is None:
        arguments = {}
    if not isinstance(name, str) or not isinstance(arguments, dict) or unfit(arguments):
        return None
    return ToolCall(name=name, arguments=arguments)


def _value(text: str) -> Any:
    """A parameter's value: JSON where it is, else the text."""
    try:
        return DECODER.decode(text)
    except (ValueError, RecursionError):
        return text


def _json_at(text: str, at: int) -> tuple[Any, int]:
    """The JSON object or list that begins there, and where it ends; there where there is none."""
    if not text.startswith(("{", "["), at):
        return None, at
    try:
        return DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):
        return None, at


def _behind(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at
