"""The middle of the page: questions, answers, and what can be done with them."""

from __future__ import annotations

import time

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from runtime.web.asking import REFUSED, Asker
from runtime.web.conversation import Conversation, Said, Turn
from runtime.web.served import served

LOOK_S = 0.1
CURSOR = " ▌"
WIDTH = 240  # of a picture, in pixels


def show_turns(conversation: Conversation, ask: Asker) -> None:
    """Draws all turns. While the last is being answered, goes on drawing that; a click anywhere begins the page anew."""
    turns = conversation.turns
    places: list[DeltaGenerator] = []
    for at, turn in enumerate(turns):
        with st.chat_message("user"):
            _show_question(turn, f"{conversation.id}-{at}", at, ask)
        with st.chat_message("assistant"):
            places = _show_answers(turn, f"{conversation.id}-{at}")
            control = st.empty()  # in all of them, so that what was here before is gone at once
            if turn.running and turn is turns[-1]:
                control.button("Stop", key="stop", icon=":material/stop:", on_click=turn.stop.set)
            elif turn is turns[-1]:
                control.button("Regenerate", key="again", icon=":material/refresh:", on_click=ask.again)
    if refused := st.session_state.get(REFUSED):
        st.error(refused)
    if turns and turns[-1].running:
        _watch(turns[-1], places)


def _show_question(turn: Turn, key: str, at: int, ask: Asker) -> None:
    if turn.images:
        st.image([image.small for image in turn.images], caption=[image.name for image in turn.images], width=WIDTH)
    if st.session_state.get("editing") != key:
        st.text(turn.question)
        begin = {"on_click": st.session_state.update, "args": ({"editing": key},)}
        st.button("Edit", key=f"edit-{key}", type="tertiary", icon=":material/edit:", **begin)
        return
    field = f"edited-{key}"
    st.text_area("Question", value=turn.question, key=field, label_visibility="collapsed")
    with st.container(horizontal=True):
        st.button("Ask this instead", key=f"ask-{key}", type="primary", on_click=ask.edited, args=(at, field))
        st.button("Cancel", key=f"cancel-{key}", on_click=st.session_state.pop, args=("editing", None))


def _show_answers(turn: Turn, key: str) -> list[DeltaGenerator]:
    """Draws what was said; returns where, one place for each model."""
    if turn.base is None:
        return [_show_answer(turn.answer, f"copy-{key}")]
    places = []
    for column, said, name in zip(st.columns(2), turn.said, ("Tuned", "Base"), strict=True):
        with column:
            st.caption(name)
            places.append(_show_answer(said, f"copy-{key}-{name}"))
    return places


def _show_answer(said: Said, key: str) -> DeltaGenerator:
    place = st.empty()
    _draw(place, said)
    if said.left_out:
        turns = "oldest turn was" if said.left_out == 1 else f"{said.left_out} oldest turns were"
        st.caption(f"The {turns} left out: the model's context holds no more.")
    if said.ended == "length":
        st.caption(f"Cut after {said.tokens:,} tokens: it may be longer with more max new tokens.")
    elif said.ended == "cancelled":
        st.caption("Stopped.")
    if said.text and said.ended not in (None, "failed"):
        with st.popover("Copy", type="tertiary", icon=":material/content_copy:", key=key):
            st.code(said.text, language=None, wrap_lines=True)  # has a button that copies
    return place


def _watch(turn: Turn, places: list[DeltaGenerator]) -> None:
    while turn.running:
        turn.seen = time.monotonic()
        for place, said in zip(places, turn.said, strict=True):
            _draw(place, said, before=served().answering.before(turn))  # also where nothing is new: Streamlit looks for clicks here
        time.sleep(LOOK_S)
    st.rerun()


def _draw(place: DeltaGenerator, said: Said, *, before: int = 0) -> None:
    if said.ended == "failed":
        place.error(said.text)
    elif said.ended is not None:
        place.markdown(said.text or "*(an empty answer)*")
    elif said.text:
        place.markdown(said.text + CURSOR)
    else:
        place.caption(f"Waiting for {before} other answer{'s' if before > 1 else ''}…" if before else "…")
