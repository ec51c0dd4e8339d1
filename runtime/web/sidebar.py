"""The side of the page: conversations, comparison, files."""

from __future__ import annotations

import re

import streamlit as st

from runtime.config import ChatConfig
from runtime.web.conversation import Conversation, Visitor
from runtime.web.models import Models


def show_conversations(visitor: Visitor) -> Conversation:
    """The list of conversations, and what can be done with them; returns the one that is shown."""
    if st.button("New conversation", width="stretch"):
        st.session_state["conversation"] = visitor.begin().id
    current = visitor.find(st.session_state.get("conversation"))
    st.session_state["conversation"] = current.id
    ids = [conversation.id for conversation in visitor.conversations]
    st.radio("Conversations", ids, format_func=lambda id_: visitor.find(id_).name, key="conversation", label_visibility="collapsed")
    with st.container(horizontal=True, gap="xsmall"):
        with st.popover("Rename"), st.form("rename", border=False):
            field = f"title-{current.id}"
            st.text_input("Title", value=current.name, key=field)
            st.form_submit_button("Save", on_click=_rename, args=(current, field))
        st.button("Reset", help="Begins this conversation anew", disabled=not current.turns, on_click=current.cut, args=(0,))
        st.button("Delete", on_click=visitor.delete, args=(current,))
    return current


def show_comparison(models: Models) -> None:
    """Whether the base model is asked, too."""
    reason = "Asks the base model the same, and shows both answers" if models.comparable else "There is no base model to compare with"
    st.toggle("Beside the base model", key="beside", disabled=not models.comparable, help=reason)


def show_files(conversation: Conversation, chat: ChatConfig) -> None:
    """The conversation to take along."""
    name = re.sub(r"\W+", "-", conversation.name).strip("-").lower() or "conversation"
    files = (("JSON", conversation.as_openai(chat.system), "json"), ("Markdown", conversation.as_markdown(chat.system), "md"))
    with st.container(horizontal=True, gap="xsmall"):
        for label, text, suffix in files:
            st.download_button(
                f"Download {label}",
                text,
                file_name=f"{name}.{suffix}",
                disabled=not conversation.turns,
                on_click="ignore",
                help="messages as openai has them: a row of training data" if suffix == "json" else "to read",
            )


def _rename(conversation: Conversation, field: str) -> None:
    conversation.title = st.session_state[field].strip() or None
