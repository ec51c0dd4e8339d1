"""Rows that tests write down in short, and what of a row is trained."""

from __future__ import annotations

import itertools

from conversations.row import canonical


def plain_row(turns):
    """A row of plain turns (role, content); one turn of the role `text` is a row of text."""
    if turns[0][0] == "text":
        return canonical({"text": turns[0][1]})
    return canonical({"messages": [{"role": role, "content": content} for role, content in turns]})


def spans(encoded):
    """Trained positions of a row of tokens as [start, end), as tests/cases writes them."""
    edges = [False, *encoded.trained, False]
    changes = [index for index, (before, here) in enumerate(itertools.pairwise(edges)) if before != here]
    return [list(span) for span in zip(changes[::2], changes[1::2], strict=True)]
