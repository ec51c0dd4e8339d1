"""Plain text as token ids, for continued pretraining: no template, no roles; every token is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from conversations.row import Conversation, Message
from runtime.faults import WRONG, RunFault
from runtime.tokens.chat_template import Answer, ChatFormat, Encoded, Masks, Rendered, Tokens, as_encoded
from runtime.tokens.controls import Controls
from runtime.tokens.vocabulary import Vocabulary, vocabulary_of
from runtime.vision.form import SeeingFormat
from runtime.vision.sizes import image_tokens

if TYPE_CHECKING:
    from tokenizers import Encoding
    from transformers import PreTrainedTokenizerBase

    from runtime.config import Config


class TextFormat:
    """A tokenizer for rows of text. `end_of_turn` is the id that ends a row: the tokenizer's end of text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase | Vocabulary) -> None:
        self.vocabulary = tokenizer if isinstance(tokenizer, Vocabulary) else vocabulary_of(tokenizer)
        if self.vocabulary.eos is None:
            raise RunFault("SG422", "the tokenizer has no end-of-text token, so generation could never stop", exit_code=WRONG)
        self.end_of_turn = self.vocabulary.eos
        self.end_text = self.vocabulary.names["eos_token"]
        self.begin = list(self.vocabulary.begin)
        self._controls = Controls(self.vocabulary.controls)

    def with_system(self, messages: list[Message]) -> list[Message]:
        """The messages: text has no roles, and gets no system text."""
        return messages

    def rows(self, conversation: Conversation) -> list[Conversation]:
        """What is trained of a row: itself."""
        return [conversation]

    def render(self, messages: list[Message]) -> str:
        """The texts of a row, one after another."""
        return "\n".join(message["content"] for message in messages)

    def encode(self, messages: list[Message], tools: list[object] | None = None) -> Encoded:
        """A whole row for training: its text and the end of text. A begin-of-text token that the tokenizer adds is not trained."""
        return as_encoded(self.tokens_of(self.rendered(messages, tools), None))

    def encode_row(self, conversation: Conversation) -> Encoded:
        """A row for training."""
        return as_encoded(self.tokens_of(self.rendered_row(conversation), None))

    def rendered_row(self, conversation: Conversation) -> Rendered:
        """A row's text."""
        return self.rendered(conversation.get("messages") or [{"role": "text", "content": conversation["text"]}])

    def rendered(self, messages: list[Message], _tools: list[object] | None = None) -> Rendered:
        """A row's text."""
        text, cut = self._controls.text(self.render(messages))
        return Rendered(text, [], cut is None and self.vocabulary.tokenizer is not None, cut)

    def encode_batch(self, texts: Sequence[str]) -> list[Encoding]:
        """The encodings of plain rows, for `tokens_of`."""
        return self.vocabulary.encode_batch(texts, offsets=False)

    def tokens_of(self, row: Rendered, encoding: Encoding | None) -> Tokens:
        """Ids of a row. `encoding` is that of its text; None where the text needs care."""
        ids = self._ids_of(row.text, row.cut) if encoding is None else encoding.ids
        ids = [*self.begin, *ids, self.end_of_turn]
        return Tokens(ids, [Answer(len(self.begin), len(ids), 1.0)])

    def prompt_ids(self, messages: list[Message], _tools: list[object] | None = None) -> list[int]:
        """Ids that the model continues: exactly those that a row with this beginning has."""
        return self.begin + self._ids_of(*self._controls.text(self.render(messages)))

    def _ids_of(self, text: str, cut: str | None) -> list[int]:
        first, *rest = text.split(cut) if cut is not None else [text]
        return self.vocabulary.ids_of(first) + [token for piece in rest for token in self.vocabulary.ids_behind(piece)]


RowFormat = ChatFormat | TextFormat


def row_format(tokenizer: PreTrainedTokenizerBase | Vocabulary, config: Config, *, system: str | None) -> RowFormat:
    """How rows and prompts become tokens: by the chat template, or as plain text. Raises RunFault."""
    if config.train.objective == "text":
        return TextFormat(tokenizer)
    data = config.data
    masks = Masks(train_on=data.train_on, end_of_turn=data.train_end_of_turn, unroll=data.unroll, stop=config.template.stop)
    if config.model.vision is not None:
        return SeeingFormat(tokenizer, system=system, masks=masks, image_tokens=image_tokens(config.model.vision))
    return ChatFormat(tokenizer, system=system, masks=masks)
