"""How an answer of a conversation is made: asked for once, or, with tools, in several rounds (runtime/plugins)."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import Any, Protocol

from conversations.row import Message
from runtime.config import ChatConfig
from runtime.generation.generate import Answer
from runtime.talking.talker import Talker


class Answering(Protocol):
    """How an answer is made: asked once, or with tools in several rounds. It adds messages of its own, but not the answer.

    `told` are the tools that the chat template tells the model of.
    """

    @property
    def told(self) -> list[Any] | None:
        """The tools that the chat template tells the model of; None for none."""

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
        """The last answer to a conversation; what was said on the way is added to `messages`."""


class Plainly:
    """An answer without tools."""

    told = None

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
        """The answer, asked for once."""
        return talker.answer(messages, chat=chat, show=show, stop=stop)
