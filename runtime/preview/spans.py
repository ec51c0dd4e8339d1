"""Pieces joined to spans: stretches of a row that are trained alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from runtime.preview.pieces import Piece
from runtime.preview.rows import Shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Neighbouring pieces of one weight; `start` and `end` count characters of the row's text."""

    start: int
    end: int
    weight: float
    pieces: tuple[Piece, ...]

    @property
    def text(self) -> str:
        """Its text as it was rendered."""
        return "".join(piece.text for piece in self.pieces)


def spans_of(pieces: Sequence[Piece]) -> list[Span]:
    """The spans of a row, trained or not, in order."""
    spans, start = [], 0
    for weight, group in groupby(pieces, key=lambda piece: piece.weight):
        members = tuple(group)
        end = start + sum(len(piece.text) for piece in members)
        spans.append(Span(start=start, end=end, weight=weight, pieces=members))
        start = end
    return spans


def as_data(row: Shown, max_length: int) -> dict[str, Any]:
    """A row for other programs: `spans` are what is trained, in characters of `text`; the lists go token by token."""
    tokens = row.tokens
    return {
        "source": row.source.number,
        "name": row.source.name,
        "row": row.number,
        "place": row.place,
        "part": row.part,
        "parts": row.parts,
        "note": row.note,
        "tokens": len(tokens),
        "trained_tokens": row.trained,
        "max_length": max_length,
        "text": row.text,
        "spans": [
            {"start": span.start, "end": span.end, "weight": span.weight, "text": span.text} for span in spans_of(row.pieces) if span.weight
        ],
        "input_ids": [token.id for token in tokens],
        "trained": [token.trained for token in tokens],
        "weights": [token.weight for token in tokens],
    }
