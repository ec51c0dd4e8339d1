"""The page: Streamlit runs this file from top to bottom for each visitor, and again after each click."""

from __future__ import annotations

from typing import Any

import streamlit as st

from runtime.web.asking import Asker
from runtime.web.pictures import MOST_MB
from runtime.web.served import served
from runtime.web.settings import settings, show_settings
from runtime.web.sidebar import show_comparison, show_conversations, show_files
from runtime.web.turns import show_turns


def main() -> None:
    """The page, once through: Streamlit runs it anew at each input."""
    here = served()
    talker = here.models.talker
    st.set_page_config(page_title=talker.name)
    secret, visitor = here.visitors.get(st.query_params.get("visitor"))
    if st.query_params.get("visitor") != secret:
        st.query_params["visitor"] = secret  # loading the page again keeps the conversations
    with st.sidebar:
        st.title(talker.name)
        conversation = show_conversations(visitor)
        show_comparison(here.models)
        with st.expander("Settings"):
            show_settings(talker.chat)
        show_files(conversation, settings(talker.chat))
    ask = Asker(here, conversation)
    sees: dict[str, Any] = {"accept_file": "multiple", "max_upload_size": MOST_MB} if talker.sees else {}
    st.chat_input("Your question", key="question", on_submit=ask.question, args=("question",), **sees)
    show_turns(conversation, ask)


if __name__ == "__main__":  # as it is to Streamlit
    main()
