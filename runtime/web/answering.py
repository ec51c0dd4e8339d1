"""Answers that are made beside the page, each in a thread of its own: a click anywhere does not end them, the stop button does."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

from conversations.row import Message
from runtime.config import ChatConfig
from runtime.faults import RunFault
from runtime.web.conversation import Turn

if TYPE_CHECKING:
    from runtime.web.models import Side

ABANDONED_S = 120.0  # as long as Streamlit keeps the session of a page that is gone
LAST_S = 10.0


class Answering:
    """The answers that are being made in this process."""

    def __init__(self) -> None:
        self._running: dict[int, tuple[threading.Thread, Turn]] = {}
        self._lock = threading.Lock()

    def begin(self, turn: Turn, messages: Sequence[Message], chat: ChatConfig, sides: Sequence[Side]) -> None:
        """Asks one model after the other; returns at once."""
        thread = threading.Thread(target=self._make, args=(turn, list(messages), chat, sides), daemon=True)
        with self._lock:
            self._running[id(turn)] = (thread, turn)
        thread.start()

    def before(self, turn: Turn) -> int:
        """How many answers were asked for earlier and are still being made."""
        with self._lock:
            known = list(self._running)
        return known.index(id(turn)) if id(turn) in known else 0

    def end(self) -> None:
        """Ends all of them after their next token."""
        with self._lock:
            running = list(self._running.values())
        for _, turn in running:
            turn.stop.set()
        until = time.monotonic() + LAST_S
        for thread, _ in running:
            thread.join(max(0.0, until - time.monotonic()))

    def _make(self, turn: Turn, messages: list[Message], chat: ChatConfig, sides: Sequence[Side]) -> None:
        try:
            for side in sides:
                _ask(side, turn, messages, chat)
        finally:
            with self._lock:
                del self._running[id(turn)]


def _ask(side: Side, turn: Turn, messages: list[Message], chat: ChatConfig) -> None:
    said = side.said
    if turn.stop.is_set():
        said.ended = "cancelled"
        return

    def show(piece: str) -> None:
        said.text += piece
        if time.monotonic() - turn.seen > ABANDONED_S:  # nobody looks any more
            turn.stop.set()

    try:
        talker = side.talker()
        fitting, said.left_out = talker.fitted(messages, chat) if talker.has_turns else (messages[-1:], 0)
        answer = talker.answer(fitting, chat=chat, show=show, stop=turn.stop, base=side.base)
    except RunFault as fault:
        said.text = fault.message + (f" ({fault.hint})" if fault.hint else "")
        said.ended = "failed"
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        said.text = f"{type(error).__name__}: {error}"
        said.ended = "failed"
    else:
        said.text, said.tokens = answer.text, answer.tokens
        said.ended = "cancelled" if answer.cancelled else "stop" if answer.stopped else "length"
