"""The data stage: sources → tokenized rows, with nothing lost in silence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime import console
from runtime.chat_template import ChatFormat, Encoded
from runtime.config import Config, DataConfig
from runtime.data.dataset import save_rows
from runtime.data.figures import figures
from runtime.data.sources import Row, messages_of, read_sources
from runtime.faults import WRONG, RunFault
from runtime.model import load_tokenizer

MOST_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A row after the length policy: None is dropped."""

    encoded: Encoded | None
    truncated: bool = False


def make_data(config: Config, _folder: Path, out: Path) -> dict[str, Any]:
    """Reads, tokenizes and masks all rows; writes them and returns the figures. Raises RunFault for rows that do not fit."""
    counts, held = read_sources(config.data, seed=config.train.seed)
    chat_format = ChatFormat(load_tokenizer(config.model, config.template), system=config.data.system)
    rows = list(counts)
    encoded = [chat_format.encode(chat_format.with_system(messages_of(row))) for row in rows]
    _refuse_untrained(rows, encoded)
    fitted = fit(rows, encoded, config.data)
    _hold_limits(config.data, fitted, [counts[row] for row in rows])

    kept: list[Encoded] = []
    kept_rows: list[Row] = []
    splits: dict[str, list[int]] = {"train": [], "validation": []}
    for row, fit_row in zip(rows, fitted, strict=True):
        if fit_row.encoded is not None:
            splits["validation" if row in held else "train"] += [len(kept)] * counts[row]
            kept.append(fit_row.encoded)
            kept_rows.append(row)
    if not splits["train"]:
        raise RunFault("SG425", "no row is left for training", "raise data.max_length", exit_code=WRONG)
    save_rows(kept, splits["train"], splits["validation"], out)

    found = {
        "rows": counts.total(),
        "max_length": config.data.max_length,
        **figures(kept_rows, kept, splits["train"], splits["validation"]),
        "dropped": sum(counts[row] for row, fit_row in zip(rows, fitted, strict=True) if fit_row.encoded is None),
        "truncated": sum(counts[row] for row, fit_row in zip(rows, fitted, strict=True) if fit_row.truncated),
    }
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


def _hold_limits(data: DataConfig, fitted: Sequence[Fitted], counts: Sequence[int]) -> None:
    total = sum(counts)
    lost = {
        "dropped": sum(count for row, count in zip(fitted, counts, strict=True) if row.encoded is None) / total,
        "truncated": sum(count for row, count in zip(fitted, counts, strict=True) if row.truncated) / total,
    }
    limits = {"dropped": data.limits.dropped, "truncated": data.limits.truncated}
    for what, share in lost.items():
        if share > limits[what]:
            message = f"{share:.1%} of the rows would be {what}; data.limits.{what} allows {limits[what]:.1%}"
            raise RunFault("SG427", message, f"raise data.max_length, or data.limits.{what}", exit_code=WRONG)


def data_line(figures: dict[str, Any]) -> str:
    """The figures in a line."""
    parts = [
        f"{figures['rows']:,} rows, {figures['distinct']:,} distinct",
        f"{figures['tokens']:,} tokens, {figures['trained_tokens'] / figures['tokens']:.0%} trained",
        f"longest {figures['longest']} of {figures['max_length']}",
    ]
    parts += [f"{figures[what]:,} {what}" for what in ("validation_rows", "dropped", "truncated") if figures[what]]
    return " · ".join(parts).replace("validation_rows", "held out")


def _beginning(row: Row) -> str:
    return console.one_line(" / ".join(f"{message['role']}: {message['content']}" for message in messages_of(row)), 80)
