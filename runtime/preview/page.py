"""Rows as HTML: a page of their own, and a part of a run's report. One file, nothing fetched, no script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from runtime.config import Config
from runtime.faults import WRONG, RunFault
from runtime.preview.lengths import SAMPLE, lengths_of
from runtime.preview.pieces import Piece, visible
from runtime.preview.read import Named, named_sources
from runtime.preview.rows import Encoder, Shown, measured, picked
from runtime.preview.spans import spans_of
from runtime.preview.text import head

PAGE_ROWS = 5  # of each source
REPORT_ROWS = 2
MOST_TOKENS = 4000  # of a row; what is behind them is counted
TEMPLATES = Path(__file__).parents[1] / "templates"


def write_page(file: Path, encoder: Encoder, sources: Sequence[Named], *, first: int, count: int, sample: int, strict: bool) -> int:
    """Writes the page; returns how many rows it shows. Raises RunFault, also where the file cannot be written."""
    found = picked(sources, first=first, count=count, strict=strict)
    rows = [shown for source, row in found for shown in encoder.shown(row, source)]
    html = (
        _environment()
        .get_template("preview.html.j2")
        .render(config=encoder.config, sources=by_source(rows, encoder), lengths=measured(encoder, sources, sample))
    )
    try:
        file.write_text(html, encoding="utf-8")
    except OSError as error:
        raise RunFault("SG302", f"{file} cannot be written: {error.strerror}", exit_code=WRONG) from None
    return len(rows)


def rows_for_report(config: Config) -> dict[str, Any]:
    """The first rows of each source and their lengths, for the report of a run, which does not fail for what is no longer to be
    had: `faults` say that."""
    encoder, sources = Encoder(config), named_sources(config)
    rows: list[Shown] = []
    lengths: list[list[int]] = []
    faults: list[str] = []
    most = max(1, SAMPLE // max(1, len(sources)))
    for source in sources:
        try:
            found = picked([source], first=1, count=REPORT_ROWS, strict=True)
            rows += [shown for _, row in found for shown in encoder.shown(row, source)]
            lengths.append(encoder.lengths(source, most))
        except RunFault as fault:
            faults.append(fault.message)
    if encoder.note:
        faults.append(encoder.note)
    figures = lengths_of(lengths, most=most, max_length=config.data.max_length)
    return {"sources": by_source(rows, encoder), "lengths": figures, "faults": faults}


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
