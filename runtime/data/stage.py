"""The data stage: sources → tokenized rows, with nothing lost in silence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conversations.row import Row, messages_of
from runtime import console
from runtime.chat_template import Encoded
from runtime.config import Config, DataConfig
from runtime.data.dataset import save_rows
from runtime.data.figures import figures
from runtime.data.limits import hold
from runtime.data.packing import best_fit
from runtime.data.sources import read_sources
from runtime.faults import WRONG, RunFault
from runtime.model import load_tokenizer
from runtime.text_format import row_format

MOST_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A row after the length policy: None is dropped."""

    encoded: Encoded | None
    truncated: bool = False


def make_data(config: Config, _folder: Path, out: Path) -> dict[str, Any]:
    """Reads, tokenizes and masks all rows; writes them and returns the figures. Raises RunFault for rows that do not fit."""
    data = config.data
    gathered = read_sources(data, seed=config.train.seed)
    counts, rows = gathered.counts, list(gathered.counts)
    form = row_format(load_tokenizer(config.model, config.template), config, system=data.system)
    encoded = [form.encode(form.with_system(messages_of(row))) for row in rows]
    _refuse_untrained(rows, encoded)
    fitted = fit(rows, encoded, data)
    lost = {
        "dropped": sum(counts[row] for row, fit_row in zip(rows, fitted, strict=True) if fit_row.encoded is None),
        "truncated": sum(counts[row] for row, fit_row in zip(rows, fitted, strict=True) if fit_row.truncated),
    }
    hold(data.limits, {name: number / counts.total() for name, number in lost.items()})

    kept: list[Encoded] = []
    kept_rows: list[Row] = []
    splits: dict[str, list[int]] = {"train": [], "validation": []}
    for row, fit_row in zip(rows, fitted, strict=True):
        if fit_row.encoded is not None:
            splits["validation" if row in gathered.held else "train"] += [len(kept)] * counts[row]
            kept.append(fit_row.encoded)
            kept_rows.append(row)
    train, validation = splits["train"], splits["validation"]
    if not train:
        raise RunFault("SG425", "no row is left for training", "raise data.max_length", exit_code=WRONG)
    packs = best_fit([len(kept[index].input_ids) for index in train], data.max_length) if data.packing else None
    save_rows(kept, train, validation, out, packs=packs)

    held = sum(counts[row] for row in gathered.held)
    found = {
        "rows": counts.total(),
        "by_source": list(gathered.by_source),
        "train_rows": counts.total() - held,
        "validation_rows": held,
        "validation_distinct": len(gathered.held),
        "max_length": data.max_length,
        **figures(kept_rows, kept, train, validation, packs, data.max_length),
        **lost,
    }
    shares = {"trained": found["trained_tokens"] / found["tokens"], "duplicates": found["duplicates"], "overlap": found["overlap"]}
    hold(data.limits, shares)
    console.say("data", data_line(found))
    return found


def fit(rows: Sequence[Row], encoded: Sequence[Encoded], data: DataConfig) -> list[Fitted]:
    """Rows within max_length, by the policy `overlong`. Raises RunFault for `error`, naming every row that is too long."""
    overlong = [index for index, row in enumerate(encoded) if len(row.input_ids) > data.max_length]
    if overlong and data.overlong == "error":
        lines = [f"  {len(encoded[index].input_ids)} tokens: {_beginning(rows[index])}" for index in overlong[:MOST_SHOWN]]
        if len(overlong) > MOST_SHOWN:
            lines.append(f"  and {len(overlong) - MOST_SHOWN} more")
        longest = max(len(encoded[index].input_ids) for index in overlong)
        count = f"{len(overlong)} distinct row{'s are' if len(overlong) > 1 else ' is'}"
        hint = f"write data.max_length: {longest}, or overlong: drop or truncate"
        raise RunFault("SG424", "\n".join([f"{count} longer than {data.max_length} tokens", *lines]), hint, exit_code=WRONG)
    return [_fitted(row, data) for row in encoded]


def _fitted(row: Encoded, data: DataConfig) -> Fitted:
    if len(row.input_ids) <= data.max_length:
        return Fitted(encoded=row)
    cut = Encoded(input_ids=row.input_ids[: data.max_length], trained=row.trained[: data.max_length])
    if data.overlong == "drop" or not any(cut.trained):
        return Fitted(encoded=None)  # a row without a trained token teaches nothing
    return Fitted(encoded=cut, truncated=True)


def _refuse_untrained(rows: Sequence[Row], encoded: Sequence[Encoded]) -> None:
    for row, tokens in zip(rows, encoded, strict=True):
        if not any(tokens.trained):
            raise RunFault("SG426", f"a row has no trained token: {_beginning(row)}", "its answer is empty once rendered", exit_code=WRONG)


def data_line(figures: dict[str, Any]) -> str:
    """The figures in a line."""
    parts = [
        f"{figures['rows']:,} rows, {figures['distinct']:,} distinct",
        f"{figures['tokens']:,} tokens, {figures['trained_tokens'] / figures['tokens']:.0%} trained",
        f"longest {figures['longest']} of {figures['max_length']}",
    ]
    if figures["packs"] is not None:
        parts.append(f"{figures['packs']:,} packs, {figures['fill']:.1%} full")
    parts += [f"{figures[what]:,} {what}" for what in ("validation_rows", "dropped", "truncated") if figures[what]]
    return " · ".join(parts).replace("validation_rows", "held out")


def _beginning(row: Row) -> str:
    return console.one_line(" / ".join(f"{message['role']}: {message['content']}" for message in messages_of(row)), 80)
