"""Plain text as token ids, for continued pretraining: no template, no roles; every token is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conversations.row import Message
from runtime.chat_template import ChatFormat, Encoded, controls_of, cut_controls, plain_tokens
from runtime.faults import WRONG, RunFault

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TextFormat:
    """A tokenizer for rows of text. `end_of_turn` is the id that ends a row: the tokenizer's end of text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        if tokenizer.eos_token_id is None:
            raise RunFault("SG422", "the tokenizer has no end-of-text token, so generation could never stop", exit_code=WRONG)
        self.end_of_turn = int(tokenizer.eos_token_id)
        self.controls, self._ids_of = controls_of(tokenizer), plain_tokens(tokenizer)
        added = tokenizer("")["input_ids"]
        self.begin = [token for token in added if token == tokenizer.bos_token_id and token != tokenizer.eos_token_id]

    def with_system(self, messages: list[Message]) -> list[Message]:
        """The messages: text has no roles, and gets no system text."""
        return messages

    def render(self, messages: list[Message]) -> str:
        """The texts of a row, one after another."""
        return "\n".join(message["content"] for message in messages)

    def encode(self, messages: list[Message]) -> Encoded:
        """A whole row for training: its text and the end of text. A begin-of-text token that the tokenizer adds is not trained."""
        text = [*self._tokenize(self.render(messages)), self.end_of_turn]
        return Encoded(input_ids=self.begin + text, trained=[False] * len(self.begin) + [True] * len(text))

    def prompt_ids(self, messages: list[Message]) -> list[int]:
        """Ids that the model continues: exactly those that a row with this beginning has."""
        return self.begin + self._tokenize(self.render(messages))

    def _tokenize(self, text: str) -> list[int]:
        return self._ids_of(cut_controls(text, self.controls))


RowFormat = ChatFormat | TextFormat


def row_format(tokenizer: PreTrainedTokenizerBase, objective: str, *, system: str | None) -> RowFormat:
    """How rows and prompts become tokens: by the chat template, or as plain text. Raises RunFault."""
    return TextFormat(tokenizer) if objective == "text" else ChatFormat(tokenizer, system=system)
