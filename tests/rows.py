"""Rows that tests write down in short."""

from __future__ import annotations

from conversations.row import canonical


def plain_row(turns):
    """A row of plain turns (role, content); one turn of the role `text` is a row of text."""
    if turns[0][0] == "text":
        return canonical({"text": turns[0][1]})
    return canonical({"messages": [{"role": role, "content": content} for role, content in turns]})
