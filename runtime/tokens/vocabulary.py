"""A tokenizer without transformers: text → ids, exactly as it, and nothing added. What it needs travels to other processes.

The tokenizers library splits a text at its added tokens first; what stands on one side of a special token has no influence
on the ids of the other. The proofs of runtime/tokens/chat_template.py rest on that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer
    from transformers import PreTrainedTokenizerBase

BEFORE = "\n"  # what a piece of text is tokenized behind where a tokenizer would put a blank in front of it


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """A tokenizer's own facts. `tokenizer` is None for one that the tokenizers library does not have; that one's `slow_ids`
    cannot travel.

    `templates` are its chat templates by name, `names` texts such as bos_token's, `controls` the special tokens, text → id.
    `begin` are the ids that it would put in front of a text.
    """

    tokenizer: Tokenizer | None
    slow_ids: Callable[[str], list[int]] | None
    templates: dict[str, str]
    names: dict[str, str]
    controls: dict[str, int]
    begin: tuple[int, ...]
    bos: int | None
    eos: int | None

    def __getstate__(self) -> dict[str, Any]:
        assert self.tokenizer is not None
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**named, "tokenizer": _plain(self.tokenizer.to_str())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        from tokenizers import Tokenizer

        self.__dict__.update(state, tokenizer=Tokenizer.from_str(state["tokenizer"]))

    def encode_batch(self, texts: Sequence[str], *, offsets: bool) -> list[Encoding]:
        """The encodings of texts that need no care. Without offsets they take a sixth less time."""
        assert self.tokenizer is not None
        if not offsets:
            return self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return self.tokenizer.encode_batch(texts, add_special_tokens=False)

    def ids_of(self, text: str) -> list[int]:
        """The ids of a text from its beginning."""
        if self.slow_ids is not None:
            return self.slow_ids(text)
        assert self.tokenizer is not None
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def ids_behind(self, text: str) -> list[int]:
        """The ids of a text that others precede: without the blank that some tokenizers put in front of every beginning."""
        if text and self._adds_blank and (ids := self.ids_of(BEFORE + text))[: len(self._before)] == self._before:
            return ids[len(self._before) :]
        return self.ids_of(text)

    @cached_property
    def _before(self) -> list[int]:
        return self.ids_of(BEFORE)

    @cached_property
    def _adds_blank(self) -> bool:
        return self.ids_of(BEFORE + "x")[len(self._before) :] != self.ids_of("x")


def vocabulary_of(tokenizer: PreTrainedTokenizerBase) -> Vocabulary:
    """The facts of a tokenizer as transformers has it."""
    templates = tokenizer.chat_template or {}
    backend = tokenizer.backend_tokenizer if tokenizer.is_fast else None
    if backend is not None:
        backend.no_truncation()
        backend.no_padding()
    special = {token.content: index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    return Vocabulary(
        tokenizer=backend,
        slow_ids=None if tokenizer.is_fast else lambda text: tokenizer(text, add_special_tokens=False)["input_ids"],
        templates={"default": templates} if isinstance(templates, str) else dict(templates),
        names={name: str(text) for name, text in tokenizer.special_tokens_map.items() if isinstance(text, str)},
        controls=special,
        begin=_begin(tokenizer),
        bos=tokenizer.bos_token_id,
        eos=tokenizer.eos_token_id,
    )


def _begin(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    added: list[int] = tokenizer("")["input_ids"]
    return tuple(token for token in added if token == tokenizer.bos_token_id and token != tokenizer.eos_token_id)


def _plain(backend: str) -> str:
    """tokenizer.json without what is done behind the tokenizing: special tokens, which are never added here, and offsets without
    the blanks of words; without truncation and padding."""
    content: dict[str, Any] = json.loads(backend)
    content |= {"post_processor": None, "truncation": None, "padding": None}
    return json.dumps(content, ensure_ascii=False)
