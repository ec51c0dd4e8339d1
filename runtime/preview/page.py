"""Rows as HTML: a page of their own, and a part of a run's report. One file, nothing fetched, no script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from runtime.faults import WRONG, RunFault
from runtime.preview.pieces import Piece, visible
from runtime.preview.read import Named
from runtime.preview.rows import Encoder, Shown, measured, picked
from runtime.preview.spans import spans_of
from runtime.preview.text import head

PAGE_ROWS = 5  # of each source
MOST_TOKENS = 4000  # of a row; what is behind them is counted
TEMPLATES = Path(__file__).parents[1] / "templates"


def write_page(file: Path, encoder: Encoder, sources: Sequence[Named], *, first: int, count: int, sample: int, strict: bool) -> int:
    """Writes the page; returns how many rows it shows. Raises RunFault, also where the file cannot be written."""
    found = picked(sources, first=first, count=count, strict=strict)
    rows = [encoder.shown(row, source) for source, row in found]
    html = (
        _environment()
        .get_template("preview.html.j2")
        .render(config=encoder.config, sources=by_source(rows, encoder), lengths=measured(encoder, sources, sample))
    )
    try:
        file.write_text(html, encoding="utf-8")
    except OSError as error:
        raise RunFault("SG492", f"{file} cannot be written: {error.strerror}", exit_code=WRONG) from None
    return len(rows)


def by_source(rows: Iterable[Shown], encoder: Encoder) -> list[tuple[str, list[dict[str, Any]]]]:
    """(Name of a source, its rows as the templates want them)."""
    groups = groupby(rows, key=lambda row: row.source)
    return [(visible(source.name), [_for_template(row, encoder) for row in members]) for source, members in groups]


def _for_template(row: Shown, encoder: Encoder) -> dict[str, Any]:
    shown = row.pieces[:MOST_TOKENS]
    spans = [{"weight": span.weight, "pieces": [_piece(piece) for piece in span.pieces]} for span in spans_of(shown)]
    left = len(row.tokens) - sum(len(piece.tokens) for piece in shown)
    return {"source": row.source.number, "number": row.number, "head": head(row, encoder), "spans": spans, "left": left}


def _piece(piece: Piece) -> dict[str, str]:
    ids = " ".join(str(token.id) for token in piece.tokens)
    title = f"id {ids} · " + (f"trained, weight {piece.weight:g}" if piece.trained else "not trained")
    classes = " ".join(name for name, holds in (("on", piece.trained), ("control", piece.control)) if holds)
    return {"text": visible(piece.text), "title": title, "classes": classes or "off"}


def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES, encoding="utf-8"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
