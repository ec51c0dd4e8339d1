"""Rows and lengths for the terminal: with colours, or with marks where there are none.

A line is made once, as (text, style) parts; the styles mean something only where there are colours.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from runtime.preview.lengths import Lengths
from runtime.preview.pieces import Pack, Piece, one_line, visible
from runtime.preview.rows import Encoder, Shown
from runtime.preview.spans import Span, spans_of

if TYPE_CHECKING:
    from rich.console import Console


Style = Literal["head", "trained", "untrained", "control", "trained_control", "note", "plain"]
Part = tuple[str, Style]

MARKS = ("[[", "]]")  # as in plan.md
STYLES: dict[Style, str] = {
    "head": "bold",
    "trained": "bold green",
    "trained_control": "bold black on green",
    "untrained": "dim",
    "control": "magenta",
    "note": "yellow",
    "plain": "",
}
BAR_WIDTH = 40  # characters


class Printer:
    """Writes parts to standard output, with colours where that is a terminal and NO_COLOR is not set."""

    def __init__(self) -> None:
        self.console = _coloured()

    @property
    def marks(self) -> tuple[str, str]:
        """What stands around trained words: nothing where colours tell."""
        return MARKS if self.console is None else ("", "")

    def write(self, parts: Sequence[Part]) -> None:
        """Writes parts and ends the line."""
        if self.console is None:
            print("".join(text for text, _ in parts))
            return
        from rich.text import Text

        self.console.print(Text.assemble(*((text, STYLES[style]) for text, style in parts)), soft_wrap=True, highlight=False)


def _coloured() -> Console | None:
    if os.environ.get("NO_COLOR") or not (sys.stdout.isatty() or os.environ.get("FORCE_COLOR")):
        return None
    from rich.console import Console

    console = Console()
    return console if console.color_system else None


def write_row(out: Printer, row: Shown, encoder: Encoder, *, ids: bool) -> None:
    """A row: where it is from, its figures, its text, and with `ids` its tokens in a table."""
    for line in head(row, encoder):
        out.write([(line, "head")])
    write_text(out, row.pieces)
    if ids:
        out.write([])
        write_tokens(out, row)


def write_text(out: Printer, pieces: Sequence[Piece]) -> None:
    """The text of a row, with what is trained."""
    out.write(_without_last_break([part for span in spans_of(pieces) for part in _span(span, *out.marks)]))


def write_pack(out: Printer, pack: Pack, encoder: Encoder) -> None:
    """The rows of a pack, each with its place in it."""
    total, most = sum(map(len, pack.rows)), encoder.config.data.max_length
    trained = sum(token.trained for row in pack.rows for token in row)
    rows = f"{len(pack.rows):,} row{'s' if len(pack.rows) != 1 else ''}"
    figures = f"{total:,} tokens of max_length {most:,} ({total / most:.1%} full), {trained:,} trained"
    out.write([(f"pack {pack.number:,} of {pack.packs:,}: {rows}, {figures}", "head")])
    begin = 0
    for number, row in enumerate(pack.rows, start=1):
        out.write([])
        out.write([(f"row {number} in the pack: tokens {begin:,} to {begin + len(row) - 1:,}", "head")])
        write_text(out, encoder.pieces(row))
        begin += len(row)


def head(row: Shown, encoder: Encoder) -> list[str]:
    """Where a row is from, its figures, what ends its turns, and what may be mistaken in it."""
    total, most = len(row.tokens), encoder.config.data.max_length
    where = f" · {visible(row.place)}" if row.place else ""
    part = f" · part {row.part} of {row.parts}" if row.parts > 1 else ""
    token, text = encoder.end_of_turn
    endings = [piece.trained for piece in row.pieces if piece.control and piece.tokens[0].id == token]
    lines = [
        f"source {row.source.number} of {len(encoder.config.data.sources)}: {visible(row.source.name)} · row {row.number}{where}{part}",
        f"{total:,} tokens of max_length {most:,} · {row.trained:,} trained ({row.trained / max(1, total):.0%})"
        f" · {one_line(text)}"
        + ("" if token is None else f" ({token})")
        + " ends a turn"
        + ("" if token is None else f": trained {sum(endings)} of {len(endings)} times"),
    ]
    if row.note:
        lines.append(row.note)
    if alike := lookalikes(row):
        lines.append(f"text that looks like a control token, and is none: {', '.join(map(one_line, alike))}")
    return lines


def lookalikes(row: Shown) -> list[str]:
    """Texts of the row's control tokens that stand in it as text, too."""
    plain = "".join("\0" if piece.control else piece.text for piece in row.pieces)
    return sorted({piece.text for piece in row.pieces if piece.control and piece.text in plain})


def _span(span: Span, begin: str, end: str) -> list[Part]:
    parts: list[Part] = [(visible("".join(piece.text for piece in alike)), style) for style, alike in groupby(span.pieces, key=_style)]
    if not span.weight:
        return parts
    weight: list[Part] = [] if span.weight == 1 else [(f"×{span.weight:g}", "note")]
    return [(begin, "trained"), *parts, (end, "trained"), *weight]


def _without_last_break(parts: list[Part]) -> list[Part]:
    """The parts without a line break at their end, which the end of the line is in their place."""
    return [*parts[:-1], (parts[-1][0].removesuffix("\n"), parts[-1][1])] if parts else parts


def _style(piece: Piece) -> Style:
    if piece.trained:
        return "trained_control" if piece.control else "trained"
    return "control" if piece.control else "untrained"


def write_tokens(out: Printer, row: Shown) -> None:
    """A table of the tokens: place, id, weight (nothing where untrained), text. Tokens of one character share its text."""
    out.write([(f"{'':>6} {'id':>8} {'weight':>7}  text", "head")])
    index = 0
    for piece in row.pieces:
        for part, token in enumerate(piece.tokens, start=1):
            weight = f"{token.weight:g}" if token.trained else ""
            text = one_line(piece.text) + (f"  ({part} of {len(piece.tokens)})" if len(piece.tokens) > 1 else "")
            style: Style = "trained" if token.trained else "untrained"
            out.write([(f"{index:>6} {token.id:>8} {weight:>7}  ", style), (text, _style(piece))])
            index += 1


def write_lengths(out: Printer, lengths: Lengths) -> None:
    """Percentiles, then a bar for each range of lengths, with max_length between them."""
    what = f"{lengths.rows:,} row{'s' if lengths.rows != 1 else ''}"
    what += f", at most {lengths.most:,} of each source" if lengths.most else ""
    figures = " · ".join(f"{name} {value:,}" for name, value in lengths.percentiles.items())
    out.write([(f"tokens of {what}: {figures} · max_length {lengths.max_length:,}, {lengths.over:,} over it", "head")])
    most = max(bar.rows for bar in lengths.bars)
    limit: list[Part] = [(f"{'max_length':>13} {lengths.max_length:,}", "note")]
    shown = False
    for bar in lengths.bars:
        if bar.over and not shown:
            out.write(limit)
            shown = True
        drawn = "█" * max(bool(bar.rows), round(BAR_WIDTH * bar.rows / most))
        out.write([(f"{bar.span:>13} ", "plain"), (drawn, "note" if bar.over else "trained"), (f" {bar.rows:,}", "plain")])
    if not shown:
        out.write(limit)
