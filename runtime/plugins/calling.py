"""Tools by the tokenizer's own format: its chat template tells the model of them, and it answers with calls until it has its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import Event

from conversations.row import Message
from runtime.config import ChatConfig
from runtime.generation.generate import Answer
from runtime.plugins.tools import Tool, used
from runtime.talking.talker import Talker
from runtime.talking.tool_calls import Spoken, ToolCallStream, parse

MOST_ROUNDS = 5


class WithTools:
    """Answers with tools."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self.tools = tools
        self.told = [tool.told() for tool in tools]

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
        """The answer; calls and their results come into `messages` before it. After some rounds what it calls is text: the template still
        tells it of the tools, which some need to render results."""
        answer, spoken = self._round(talker, messages, chat, show, stop)
        for number in range(1, MOST_ROUNDS + 1):
            if not spoken.calls or answer.cancelled:
                break
            calls = [{"type": "function", "function": {"name": call.name, "arguments": call.arguments}} for call in spoken.calls]
            messages.append({"role": "assistant", "content": spoken.text, "tool_calls": calls})
            for call in spoken.calls:
                tool = next(tool for tool in self.tools if tool.name == call.name)
                argument = call.arguments.get(tool.argument)
                result = used(self.tools, call.name, argument)
                note(f"{call.name}({argument}) → {result}")
                messages.append({"role": "tool", "content": result, "name": call.name})
            last = number == MOST_ROUNDS
            if last:
                note(f"tools were called {MOST_ROUNDS} times; now it has to answer without")
            answer, spoken = self._round(talker, messages, chat, show, stop, offers=not last)
        return answer

    def _round(
        self, talker: Talker, messages: list[Message], chat: ChatConfig, show: Callable[[str], None], stop: Event, *, offers: bool = True
    ) -> tuple[Answer, Spoken]:
        """An answer, and the same taken apart."""
        names = [tool.name for tool in self.tools] if offers else []
        stream = ToolCallStream(names)

        def take(piece: str) -> None:
            if shown := stream.feed(piece):
                show(shown)

        answer = talker.answer(messages, chat=chat, tools=self.told, show=take, stop=stop)
        if rest := stream.flush().text:
            show(rest)
        spoken = parse(stream.text, names)
        return replace(answer, text=spoken.text), spoken
