"""Token ids as text, piece by piece.

A token may be a part of a character (a byte of an emoji), and what it is as text may hang on the one before (the space that a
SentencePiece tokenizer leaves out at the beginning). So each token is decoded behind the piece before it, and tokens stay
together until they are whole characters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

UNFINISHED = "\ufffd"  # what decoding gives for a part of a character
JOINERS = "\u200c\u200d"  # inside words of Persian, inside emoji: they hide nothing
LINES = "\n\t"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token of a row; `weight` is what its loss counts, 0 where it is not trained."""

    id: int
    weight: float

    @property
    def trained(self) -> bool:
        """Whether it has a loss."""
        return self.weight != 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """The fewest tokens that are whole characters, mostly one, and their text. `control`: a control token, not text that looks
    like one."""

    text: str
    tokens: tuple[Token, ...]
    control: bool = False

    @property
    def trained(self) -> bool:
        """Whether one of its tokens has a loss."""
        return any(token.trained for token in self.tokens)

    @property
    def weight(self) -> float:
        """The highest weight of its tokens."""
        return max(token.weight for token in self.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """The rows of a pack, each as its tokens. `number` counts from 1, of `packs`."""

    number: int
    packs: int
    rows: tuple[tuple[Token, ...], ...]


def pieces_of(tokens: Sequence[Token], decode: Callable[[list[int]], str], controls: frozenset[int]) -> list[Piece]:
    """The pieces of a row, in order. `controls` are ids: each of these is a piece of its own."""
    pieces: list[Piece] = []
    behind: list[int] = []  # ids of the piece before
    open_: list[Token] = []
    for index, token in enumerate(tokens):
        open_.append(token)
        ids = [each.id for each in open_]
        before, text = decode(behind), decode(behind + ids)
        unfinished = text.endswith(UNFINISHED) or not text.startswith(before)
        next_is_text = index + 1 < len(tokens) and tokens[index + 1].id not in controls
        if unfinished and next_is_text and token.id not in controls:
            continue
        told = text[len(before) :] if text.startswith(before) else decode(ids)
        pieces.append(Piece(text=told, tokens=tuple(open_), control=token.id in controls))
        behind, open_ = ids, []
    return pieces


def with_whole_images(pieces: Sequence[Piece], *, token: int, number: int) -> list[Piece]:
    """Pieces with each image as one: `token` stands `number` times for an image."""
    found: list[Piece] = []
    waiting: list[Piece] = []
    for piece in pieces:
        if piece.tokens[0].id != token:
            found.append(piece)
            continue
        waiting.append(piece)
        if len(waiting) == number:
            tokens = tuple(each for one in waiting for each in one.tokens)
            found.append(Piece(text=f"{piece.text}×{number}", tokens=tokens, control=True))
            waiting = []
    return found + waiting


def visible(text: str) -> str:
    """Text that can be printed anywhere: what moves the cursor, turns the direction of writing or is not to be seen becomes an
    escape. Line breaks and tabs stay."""
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character in LINES or character in JOINERS or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return character
    return character.encode("unicode_escape").decode("ascii")


def one_line(text: str) -> str:
    """Text for a cell of a table: line breaks and tabs are shown, too."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")
