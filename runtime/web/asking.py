"""What has questions answered: called by Streamlit before the page is drawn anew."""

from __future__ import annotations

from dataclasses import dataclass, replace

import streamlit as st

from runtime.faults import RunFault
from runtime.web.conversation import Conversation, Turn
from runtime.web.pictures import shown
from runtime.web.served import Served
from runtime.web.settings import settings

SEEDS = 2**32
REFUSED = "refused"  # why the last question was not asked


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks in a conversation, with the settings as they are when it is asked."""

    here: Served
    conversation: Conversation

    def question(self, field: str) -> None:
        """A new question at the end, with the images that were put beside it. An answer that is still coming ends there.

        Where an image cannot be used, that is told, and the question stands in its field again.
        """
        st.session_state.pop("editing", None)
        asked = st.session_state[field]
        text, files = (asked, ()) if isinstance(asked, str) else (asked.text, asked.files)
        try:
            images = tuple(shown(file.name, file.getvalue()) for file in files)
            turn = self.conversation.ask(text, images=images)
        except RunFault as fault:
            _refuse(fault)
            st.session_state[field] = text
        else:
            self._answer(turn)

    def edited(self, at: int, field: str) -> None:
        """Another question in the place of turn `at`, about the same images; what followed is gone."""
        images = self.conversation.turns[at].images
        if text := st.session_state[field].strip():
            try:
                turn = self.conversation.ask(text, at=at, images=images)
            except RunFault as fault:
                _refuse(fault)
                return
            self._answer(turn)
        st.session_state.pop("editing", None)

    def again(self) -> None:
        """Another answer to the last question: with the next seed, as the same one would give the same answer."""
        self._answer(self.conversation.again())

    def _answer(self, turn: Turn) -> None:
        st.session_state.pop(REFUSED, None)
        chat = settings(self.here.models.talker.chat)
        chat = replace(chat, seed=(chat.seed + turn.attempt) % SEEDS)
        sides = self.here.models.sides(turn, beside=bool(st.session_state.get("beside")))
        self.here.answering.begin(turn, self.conversation.messages(turn), chat, sides)


def _refuse(fault: RunFault) -> None:
    st.session_state[REFUSED] = fault.message + (f" ({fault.hint})" if fault.hint else "")
