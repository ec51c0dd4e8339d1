"""`<image>` in a tokenizer: a special token that stands where an image is, once for each of the image's tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conversations.row import IMAGE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


ROWS = 64  # a vocabulary that has to grow becomes a multiple of so many


def add_image_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Makes `<image>` a special token, if it is none yet; returns its id, which is the same each time."""
    from tokenizers import AddedToken

    tokenizer.add_tokens([AddedToken(IMAGE, special=True, normalized=False)], special_tokens=True)
    token: int = tokenizer.convert_tokens_to_ids(IMAGE)
    return token


def vocabulary_with(token: int, vocabulary: int) -> int:
    """Rows of the embedding once a token has one: as many as before where there is one to spare."""
    return vocabulary if token < vocabulary else -(-(token + 1) // ROWS) * ROWS
