"""XTuner's row formats by their names there.

Columns and system texts are those of xtuner/dataset/map_fns/dataset_map_fns and SYSTEM_TEMPLATE (xtuner/utils/templates.py, 0.1.17):
presets.json holds them for rows of one question and one answer; the others are functions below. Where XTuner dropped text without
a word (an odd last turn, headings in oasst1, a leading assistant), it is kept here.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from conversations.chat_formats import sharegpt
from conversations.reading import Format, Reading
from conversations.turns import listed

COLORIST = "You are a professional color designer. Please provide the corresponding colors based on the description of Human.\n"
SPEAKER = re.compile(r"###\s*(Human|Assistant):")
MARKS = re.compile(r"^\s*<\|[^|]*\|>:?\s?|\s*<eo[a-z]>\s*$")
MOSS_ROLES = {"Human": "user", "Inner Thoughts": "reasoning", "Commands": "calls", "Tool Responses": "tool", "MOSS": "assistant"}
MOSS_ARGUMENTS = {"Search": "query", "Calculate": "expression", "Solve": "equation", "Text2Image": "description"}
NOTHING = ("", "None")


def _one_turn(reading: Reading, preset: dict[str, Any]) -> None:
    if "system" in preset:
        reading.messages.append({"role": "system", "content": preset["system"]})
    if "system_column" in preset:
        reading.say("system", preset["system_column"], optional=True)
    reading.ask(preset["user"], optional=preset.get("optional", ()))
    reading.say("assistant", preset["assistant"])


def _conversation(reading: Reading) -> None:
    """XTuner's own form: turns with input and output, which may have a system text and output_with_loss."""
    column = reading.name("conversation")
    for index, turn in enumerate(reading.turns("conversation")):
        path = f"{column}[{index}]"
        if not isinstance(turn, dict):
            reading.faults.wrong("a turn", path, turn, "an object with input and output")
            continue
        for key, role in (("system", "system"), ("input", "user")):
            if turn.get(key) not in (None, ""):
                reading.add(role, turn[key], f"{path}.{key}")
        reading.add("assistant", turn.get("output"), f"{path}.output")
        learned = turn.get("output_with_loss", True)
        if not isinstance(learned, bool):
            reading.faults.wrong("output_with_loss", f"{path}.output_with_loss", learned, "true or false")
        elif not learned:
            reading.messages[-1]["train"] = False
        if turn.get("need_eos_token", True) is False or turn.get("sep"):
            key = "sep" if turn.get("sep") else "need_eos_token"
            reading.faults.add(f"{key} in a row", f"{path}.{key}", f"{path}.{key} says how turns end, which the chat template does here")
        for key in sorted(turn.keys() - {"system", "input", "output", "output_with_loss", "need_eos_token", "sep"}):
            reading.faults.add("an unknown key", f"{path}.{key}", f"{path}.{key} is not understood, and would be lost")


def _colors(reading: Reading) -> None:
    """The description without what stands before its first colon, where something follows it."""
    reading.messages.append({"role": "system", "content": COLORIST})
    reading.say("user", "description")
    if reading.messages[-1]["role"] == "user":
        description = reading.messages[-1]["content"]
        reading.messages[-1]["content"] = description.partition(":")[2].strip() or description.strip()
    reading.say("assistant", "color")


def _oasst1(reading: Reading) -> None:
    """One text of turns that begin with `### Human:` and `### Assistant:`."""
    name, text = reading.name("text"), reading.get("text")
    if not isinstance(text, str):
        reading.say("user", "text")
        return
    before, *parts = SPEAKER.split(text)
    if before.strip() or not parts:
        what = f"{name} does not begin with '### Human:' or '### Assistant:'"
        reading.faults.add("a text without speakers", name, what)
    for who, said in zip(parts[::2], parts[1::2], strict=True):
        reading.add("user" if who == "Human" else "assistant", said.strip(), name)


def _msagent(reading: Reading) -> None:
    """Turns as the text of a Python list. It is read as data, and never run as XTuner's eval did."""
    name, text = reading.name("conversations"), reading.get("conversations")
    if isinstance(text, str) and not isinstance(listed(text), list):
        try:
            reading.row = {**reading.row, name: ast.literal_eval(text.strip())}
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            reading.faults.add("a text that is no list", name, f"{name} is text that is no list of turns")
            return
    sharegpt(reading)


def _pretrain(reading: Reading) -> None:
    reading.say("text", "text")
    if reading.messages:
        reading.text = reading.messages[0]["content"].strip()
    if not reading.faults and not reading.text:
        reading.faults.add("an empty text", reading.name("text"), f"{reading.name('text')} is empty, so there is nothing to learn")


def _moss(reading: Reading) -> None:
    """MOSS' own data: what it thinks is reasoning, its commands are tool calls, their results a tool's words."""
    reading.say("system", "meta_instruction", optional=True)
    chat = reading.get("chat")
    if not isinstance(chat, dict) or not chat:
        reading.faults.wrong("chat", reading.name("chat"), chat, "an object of turns: turn_1, turn_2, …")
        return
    for turn, parts in chat.items():
        path = f"{reading.name('chat')}.{turn}"
        if not isinstance(parts, dict):
            reading.faults.wrong("a turn", path, parts, f"an object with {', '.join(MOSS_ROLES)}")
            continue
        for key in parts.keys() - MOSS_ROLES.keys():
            reading.faults.add("an unknown key", f"{path}.{key}", f"{path}.{key} is not understood, and would be lost")
        _moss_turn(reading, parts, path)


def _moss_turn(reading: Reading, parts: dict[str, Any], path: str) -> None:
    texts = {}
    for key, part in MOSS_ROLES.items():
        value = parts.get(key)
        if value is not None and not isinstance(value, str):
            reading.faults.wrong(key, f"{path}.{key}", value, "text")
        texts[part] = MARKS.sub("", value) if isinstance(value, str) else ""
    reading.add("user", texts["user"], f"{path}.Human")
    thought = {"reasoning_content": texts["reasoning"]} if texts["reasoning"] not in NOTHING else {}
    if texts["calls"] not in NOTHING:
        try:
            calls = [_moss_call(node) for node in _expressions(texts["calls"])]
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            reading.faults.add("a command that is no call", f"{path}.Commands", f"{path}.Commands is no list of calls with one text each")
            calls = []
        reading.messages.append({"role": "assistant", "content": "", **thought, "tool_calls": calls})
        reading.add("tool", texts["tool"], f"{path}.Tool Responses")
        thought = {}
    reading.add("assistant", texts["assistant"], f"{path}.MOSS")
    reading.messages[-1].update(thought)


def _expressions(text: str) -> list[ast.expr]:
    body = ast.parse(text.strip(), mode="eval").body
    return body.elts if isinstance(body, ast.Tuple) else [body]


def _moss_call(node: ast.expr) -> dict[str, Any]:
    match node:
        case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str(text))], keywords=[]):
            return {"type": "function", "function": {"name": name, "arguments": {MOSS_ARGUMENTS.get(name, "input"): text}}}
    raise ValueError("no call of a name with one text")


def _one_turn_formats() -> dict[str, Format]:
    found = {}
    for name, preset in json.loads((Path(__file__).parent / "presets.json").read_text(encoding="utf-8")).items():
        about = preset["data"] + (f"; the system text is {json.dumps(preset['system'], ensure_ascii=False)}" if "system" in preset else "")
        may = (*preset.get("optional", ()), *filter(None, [preset.get("system_column")]))
        needs = (*(column for column in preset["user"] if column not in may), preset["assistant"])
        found[name] = Format(partial(_one_turn, preset=preset), needs, may, about)
    return found


def _format(read: Callable[[Reading], None], needs: tuple[str, ...], about: str, may: tuple[str, ...] = ()) -> Format:
    return Format(read, needs, may, about)


_FORMATS: dict[str, Format] = {
    **_one_turn_formats(),
    "colors": _format(_colors, ("description", "color"), f"burkelibbey/colors; the system text is {json.dumps(COLORIST)}"),
    "moss": _format(_moss, ("chat",), "fnlp/moss-003-sft-data, with its thoughts, commands and results", ("meta_instruction",)),
    "msagent_react": _format(_msagent, ("conversations",), "damo/MSAgent-Bench: turns as the text of a list"),
    "oasst1": _format(_oasst1, ("text",), "timdettmers/openassistant-guanaco: turns after '### Human:' and '### Assistant:'"),
    "pretrain": _format(_pretrain, ("text",), "A document, for train.objective: text; blank edges are cut."),
    "wizardlm": _format(sharegpt, ("conversations",), "WizardLM/WizardLM_evol_instruct_V2_196k"),
}
_OWN = _format(_conversation, ("conversation",), "XTuner's own form: turns with system, input, output and output_with_loss.")
XTUNERS = {"conversation": _OWN, **dict(sorted(_FORMATS.items()))}
