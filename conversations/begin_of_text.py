"""The begin of text: a conversation begins as the tokenizer would begin a text, with one bos_token or with none."""

from __future__ import annotations

from conversations.templates import comes_along

ADDED = "{{- bos_token }}"
EMPTY = "{%- set bos_token = '' %}"


def in_use(template: str, *, adds_bos: bool, begins: bool) -> str:
    """A named or custom template as it is used with a tokenizer.

    `adds_bos` says whether that puts bos_token before a plain text, `begins` whether a conversation rendered by the template begins
    with it. A template of the library writes none where the tokenizer adds none; a custom one is taken at its word there.
    """
    if adds_bos:
        return template if begins else ADDED + template
    return EMPTY + template if "bos_token" in template and comes_along(template) else template
