"""The tokenizer's chat template: as it is used in training and chat, and as it is exported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from conversations.begin_of_text import in_use
from conversations.generation_tag import without_tags
from conversations.row import Message
from runtime.faults import RunFault
from runtime.tokens.chat_render import ChatTemplate
from runtime.tokens.vocabulary import vocabulary_of
from runtime.vision.content_parts import joining

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROBE: list[Message] = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]


def begin_conversations(tokenizer: PreTrainedTokenizerBase) -> None:
    """Makes its chat template begin as the tokenizer begins a plain text: with one bos_token, or with none."""
    vocabulary = vocabulary_of(tokenizer)
    adds_bos, bos = bool(vocabulary.begin), vocabulary.names.get("bos_token", "")

    def begun(template: str) -> str:
        try:
            text = ChatTemplate({"default": template}, vocabulary.names).render(PROBE)
        except RunFault:
            return template  # told where a conversation is rendered
        return in_use(template, adds_bos=adds_bos, begins=text.startswith(bos))

    _each(tokenizer, begun)


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, out: Path, *, sees: bool = False) -> None:
    """Writes the tokenizer for servers: its chat template without {% generation %}, which most of them do not know. That of a model that
    `sees` takes contents in parts, too."""
    own = tokenizer.chat_template
    _each(tokenizer, without_tags)
    if sees:
        _each(tokenizer, joining)
    tokenizer.save_pretrained(str(out))
    tokenizer.chat_template = own


def _each(tokenizer: PreTrainedTokenizerBase, change: Callable[[str], str]) -> None:
    """Changes the chat template, or each of several."""
    templates = tokenizer.chat_template
    if isinstance(templates, str):
        tokenizer.chat_template = change(templates)
    elif templates:
        tokenizer.chat_template = {name: change(text) for name, text in templates.items()}
