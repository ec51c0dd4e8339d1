"""What has questions answered: called by Streamlit before the page is drawn anew."""

from __future__ import annotations

from dataclasses import dataclass, replace

import streamlit as st

from runtime.web.conversation import Conversation, Turn
from runtime.web.served import Served
from runtime.web.settings import settings

SEEDS = 2**32


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks in a conversation, with the settings as they are when it is asked."""

    here: Served
    conversation: Conversation

    def question(self, field: str) -> None:
        """A new question at the end. An answer that is still coming ends there."""
        st.session_state.pop("editing", None)
        self._answer(self.conversation.ask(st.session_state[field]))

    def edited(self, at: int, field: str) -> None:
        """Another question in the place of turn `at`; what followed is gone."""
        st.session_state.pop("editing", None)
        if text := st.session_state[field].strip():
            self._answer(self.conversation.ask(text, at=at))

    def again(self) -> None:
        """Another answer to the last question: with the next seed, as the same one would give the same answer."""
        self._answer(self.conversation.again())

    def _answer(self, turn: Turn) -> None:
        chat = settings(self.here.models.talker.chat)
        chat = replace(chat, seed=(chat.seed + turn.attempt) % SEEDS)
        sides = self.here.models.sides(turn, beside=bool(st.session_state.get("beside")))
        self.here.answering.begin(turn, self.conversation.messages(turn), chat, sides)
