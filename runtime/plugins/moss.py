"""Tools by MOSS's format, for models that XTuner trained with the template moss_sft.

In one turn the model thinks, calls (`<|Commands|>: Calculate("1+1")<eoc>`), is given `<|Results|>: … <eor>`, and answers
(`<|MOSS|>: … <eom>`). What it wrote stays token for token; a result is tokenized so that no part of it is a control token.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import Event

from conversations.row import Message
from runtime.config import ChatConfig
from runtime.generation.generate import Answer
from runtime.plugins.calling import MOST_ROUNDS
from runtime.plugins.tools import Tool, used
from runtime.talking.talker import Talker
from runtime.tokens.chat_template import ChatFormat

COMMANDS = "<|Commands|>:"
BEFORE, BEHIND = "\n<|Results|>:\n", "\n<eor>\n"
COMMAND_STOP, ANSWER_STOP = "<eoc>", "<eom>"
CALL = re.compile(r"(\w+)\s*\(\s*(\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')\s*\)", re.DOTALL)


class WithCommands:
    """Answers with tools. The model is told of them by the system text (--system-template moss_sft)."""

    told = None

    def __init__(self, tools: Sequence[Tool], *, command_stop: str = COMMAND_STOP, answer_stop: str = ANSWER_STOP) -> None:
        self.tools, self.command_stop, self.answer_stop = tools, command_stop, answer_stop

    def __call__(
        self,
        talker: Talker,
        messages: list[Message],
        chat: ChatConfig,
        *,
        show: Callable[[str], None],
        note: Callable[[str], None],
        stop: Event,
    ) -> Answer:
        """The answer, with the calls and results in it. After some rounds it stands as it is."""
        chat = replace(chat, stop=(*chat.stop, self.command_stop, self.answer_stop))
        text, tokens = "", 0
        begun: list[int] = []
        for _ in range(MOST_ROUNDS + 1):
            answer = talker.answer(messages, chat=chat, show=show, stop=stop, begun=begun)
            text, tokens = text + answer.text, tokens + answer.tokens
            calls = calls_in(answer.raw, self.command_stop)
            if not calls or answer.cancelled:
                break
            results = [(name, argument, used(self.tools, name, argument)) for name, argument in calls]
            for name, argument, result in results:
                note(f"{name}({argument}) → {result}")
            told = "\n".join(f"{name}({argument!r}) =>\n{result}" for name, argument, result in results)
            text += self.command_stop + BEFORE + told + BEHIND
            begun += [*answer.ids, *_results(talker, told)]
        else:
            note(f"tools were called {MOST_ROUNDS + 1} times; the answer ends there")
        return replace(answer, text=text, tokens=tokens)


def _results(talker: Talker, told: str) -> list[int]:
    assert isinstance(talker.form, ChatFormat)
    before, behind = map(talker.form.vocabulary.ids_behind, (BEFORE, BEHIND))
    return [*before, *talker.form.ids_behind(told), *behind]


def calls_in(raw: str, command_stop: str = COMMAND_STOP) -> list[tuple[str, str]]:
    """Names and arguments of the commands that a piece of an answer ends with."""
    _, found, rest = raw.rpartition(COMMANDS)
    if not found or command_stop not in rest:
        return []
    return [(name, _said(text)) for name, text in CALL.findall(rest.partition(command_stop)[0])]


def _said(quoted: str) -> str:
    """What a text in quotes says. Where Python would read none (a line break, half a surrogate pair), all between the quotes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that Python does not know, which stay as they are
            said = str(ast.literal_eval(quoted))
        said.encode()  # half a surrogate pair is no text
    except (ValueError, SyntaxError):
        return quoted[1:-1]
    return said
