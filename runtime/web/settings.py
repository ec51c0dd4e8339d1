"""The settings beside a conversation: they begin with the values of the spec."""

from __future__ import annotations

import streamlit as st

from runtime.config import ChatConfig
from runtime.web.fields import as_fields, from_fields

LEAST = 0.01
MOST_NEW_TOKENS = 1_000_000_000
LARGEST_SEED = 2**32 - 1


def settings(spec: ChatConfig) -> ChatConfig:
    """The settings as they are now; the spec's at first."""
    return from_fields(spec, {name: st.session_state.get(_key(name), value) for name, value in as_fields(spec).items()})


def show_settings(spec: ChatConfig) -> None:
    """Draws the settings, which begin with the spec's."""
    start = {_key(name): value for name, value in as_fields(spec).items()}
    for key, value in start.items():
        st.session_state.setdefault(key, value)
    st.text_area("System", key=_key("system"), height=80, placeholder="none")
    st.number_input("Temperature", key=_key("temperature"), min_value=0.0, max_value=100.0, step=0.1, help="0: always the likeliest token")
    greedy = st.session_state[_key("temperature")] == 0
    st.number_input("Top k", key=_key("top_k"), min_value=0, step=1, disabled=greedy, help="0: among all tokens")
    st.number_input("Top p", key=_key("top_p"), min_value=min(LEAST, spec.top_p), max_value=1.0, step=0.05, disabled=greedy)
    st.number_input("Max new tokens", key=_key("max_new_tokens"), min_value=1, max_value=MOST_NEW_TOKENS, step=16)
    least = min(LEAST, spec.repetition_penalty)
    st.number_input("Repetition penalty", key=_key("repetition_penalty"), min_value=least, step=0.05)
    st.number_input("Seed", key=_key("seed"), min_value=0, max_value=LARGEST_SEED, step=1)
    st.text_area("Stop texts", key=_key("stop"), height=80, help="One a line; \\n in one is a line break.")
    st.button("Back to the spec's values", on_click=st.session_state.update, args=(start,))


def _key(name: str) -> str:
    return f"setting-{name}"
