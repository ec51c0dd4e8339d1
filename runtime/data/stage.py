"""The data stage: sources → tokenized rows, with nothing lost in silence.

Parts of sources are tokenized, in several processes where there are many, and written as they come. What stays in memory is in
gathered.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime import console
from runtime.config import Config, DataConfig, sources_of
from runtime.data.figures import figures, repeated
from runtime.data.gathered import Columns, Left, Rows
from runtime.data.limits import hold
from runtime.data.parts import Part, parts_of
from runtime.data.synthetic import rules_of
from runtime.faults import WRONG, RunFault
from runtime.models.model import load_tokenizer
from runtime.tokens.vocabulary import vocabulary_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from runtime.data.chosen import Chosen
    from runtime.data.dataset import Writer
    from runtime.data.joining import Joined
    from runtime.data.packing import Packing

MOST_FAULTS = 100_000  # rows: then it is of no use to go on reading
LONGER, MEND = "raise data.max_length", "mend the rows that data.on_bad_row: error names"


def make_data(config: Config, _folder: Path, out: Path) -> dict[str, Any]:
    """Reads, tokenizes and masks all rows; writes them and returns the figures. Raises RunFault for rows that do not fit."""
    from runtime.data.chosen import chosen
    from runtime.data.dataset import Writer, sha256_of

    data = config.data
    with Writer(out) as writer:
        rows = _tokenized(config, writer)
        _refuse(rows, config)
        columns = rows.columns()
        picked = chosen(data, rows.by_source, columns.digests, seed=config.train.seed)
        near = _near_duplicates(rows, columns, picked, data)
        lost = _lost(columns, picked, near)
        lost["dropped"] += rows.bad
        _hold_lost(lost, int((picked.train + picked.validation).sum()) + rows.bad, config)
        left = _left(columns, picked, near)
        packs = _packs(columns, left, config) if data.packing else None
        writer.finish(left.train, left.validation, packs)
    found = {
        "rows": picked.rows,
        "by_source": picked.by_source,
        "validation_by_source": picked.validation_sources,
        "train_rows": int(picked.train.sum()),
        "validation_rows": int(picked.validation.sum()),
        "validation_distinct": picked.held_distinct,
        "max_length": data.max_length,
        **figures(left.lengths, columns.trained[left.train], None if packs is None else len(packs), data.max_length),
        **_repeated(columns, left),
        **lost,
        "bad_rows": rows.bad,
        "more_examples": _more_examples(columns, left),
        "exchanges": rows.exchanges,
        "images": rows.images,
        "sha256": sha256_of(out),
    }
    shares = {"trained": found["trained_tokens"] / found["tokens"], "duplicates": found["duplicates"], "overlap": found["overlap"]}
    hold(data.limits, shares)
    console.say("data", data_line(found))
    return found


def _tokenized(config: Config, writer: Writer) -> Rows:
    """All rows of all sources, their examples written as they come; reading ends early where too many have faults."""
    from runtime.data.workers import tokenized

    rows = Rows(len(sources_of(config.data)), sees=config.model.vision is not None)
    for part in tokenized(_parts(config), config, lambda: vocabulary_of(load_tokenizer(config.model, config.template))):
        rows.add(part, writer)
        if rows.faulty > MOST_FAULTS:
            break
    return rows


def _parts(config: Config) -> Iterator[Part]:
    data, seed = config.data, config.train.seed
    rows_of = rules_of(data, seed=seed)
    for number, source in enumerate(sources_of(data)):
        yield from parts_of(source, number, seed=seed, rows_of=rows_of, drop=data.on_bad_row == "drop")


def _refuse(rows: Rows, config: Config) -> None:
    """Raises RunFault for rows with faults, all kinds together, unless they are to be dropped; and for rows that are too long."""
    from runtime.data.lengths import MOST_SHOWN, too_long

    if rows.faults and (config.data.on_bad_row == "error" or rows.faulty > MOST_FAULTS):
        lines = []
        for (_, message, _), fault in rows.faults.items():
            lines.append(message if fault.rows == 1 else f"{fault.rows:,} rows: {message}")
            lines += [f"  {place}" for place in fault.first]
            if fault.rows > MOST_SHOWN:
                lines.append(f"  and {fault.rows - MOST_SHOWN:,} more")
        code, _, hint = next(iter(rows.faults))
        raise RunFault(code, "\n".join(lines), hint, exit_code=WRONG)
    if rows.long:
        raise too_long(list(rows.long.values()), config.data.max_length)


def _near_duplicates(rows: Rows, columns: Columns, picked: Chosen, data: DataConfig) -> NDArray[np.bool_]:
    """Rows that are nearly the same as an earlier one, bool [R]; validation's own sources come last."""
    import numpy as np

    from runtime.data.near_duplicates import repeats

    counts_R = (picked.train + picked.validation > 0) & (columns.examples > 0)
    if data.near_duplicates is None or not rows.sketches:
        return np.zeros(len(counts_R), dtype=bool)
    return repeats(np.concatenate(rows.sketches), counts_R, data.near_duplicates.threshold)


def _lost(columns: Columns, picked: Chosen, near_R: NDArray[np.bool_]) -> dict[str, int]:
    """Rows, with repetitions, by what became of them."""
    often = picked.train + picked.validation
    return {
        "dropped": int(often[columns.examples == 0].sum()),
        "unfit": int(often[columns.unfit].sum()),
        "truncated": int(often[columns.truncated].sum()),
        "split": int(often[columns.split].sum()),
        "near_duplicates": int(often[near_R].sum()),
    }


def _hold_lost(lost: dict[str, int], total: int, config: Config) -> None:
    """Raises RunFault where more of all rows is lost than data.limits allows; tells what is left out as too long."""
    from runtime.data.lengths import dropped_line, policy_of

    shares = {name: lost[name] / max(1, total) for name in ("dropped", "truncated")}
    instead = [LONGER] if lost["unfit"] else []
    instead += [MEND] if lost["dropped"] > lost["unfit"] else []
    hold(config.data.limits, shares, dropped=", ".join([*instead, "or raise data.limits.dropped"]))
    if lost["unfit"]:
        console.say("data", dropped_line(lost["unfit"], total, policy_of(config)))


def _left(columns: Columns, picked: Chosen, near_R: NDArray[np.bool_]) -> Left:
    """What is trained on and validated with, without near duplicates. Raises RunFault where nothing is left for training."""
    import numpy as np

    train_counts, validation_counts = picked.train * ~near_R, picked.validation * ~near_R
    train = columns.order(train_counts)
    if not len(train):
        raise RunFault("SG425", "no row is left for training", _why_none(columns, picked), exit_code=WRONG)
    return Left(
        train_counts=train_counts,
        validation_counts=validation_counts,
        train=train,
        validation=columns.order(validation_counts),
        lengths=columns.lengths[train].astype(np.int64),
    )


def _why_none(columns: Columns, picked: Chosen) -> str:
    """What to do where no row is left for training."""
    import numpy as np

    wanted = np.flatnonzero(picked.train)
    if not len(wanted):
        held = "data.validation holds out every row: lower its fraction or count, or give it other sources"
        return held if picked.rows else MEND
    if columns.examples[wanted].any():
        return "each is nearly the same as one that is held out: raise data.near_duplicates.threshold"
    return LONGER if np.isin(wanted, columns.unfit).any() else MEND


def _packs(columns: Columns, left: Left, config: Config) -> Packing | Joined:
    """Rows side by side in packs; running text joined end to end."""
    from runtime.data.joining import join
    from runtime.data.packing import best_fit

    max_length, seed = config.data.max_length, config.train.seed
    if config.train.objective == "text":
        return join(*columns.documents(left.train_counts), max_length, seed=seed)
    return best_fit(left.lengths, max_length, seed=seed)


def _repeated(columns: Columns, left: Left) -> dict[str, Any]:
    """Figures of the rows that are left that are the same as others."""
    has_examples_R = columns.examples > 0
    return repeated(columns.digests, left.train_counts * has_examples_R, left.validation_counts * has_examples_R, columns.prompts)


def _more_examples(columns: Columns, left: Left) -> int:
    """By how many there are more examples than rows that became any."""
    rows = int((left.train_counts + left.validation_counts)[columns.examples > 0].sum())
    return len(left.train) + len(left.validation) - rows


def data_line(figures: dict[str, Any]) -> str:
    """The figures in a line."""
    parts = [
        f"{figures['rows']:,} rows, {figures['distinct']:,} distinct",
        f"{figures['tokens']:,} tokens, {figures['trained_tokens'] / figures['tokens']:.0%} trained",
        f"longest {figures['longest']} of {figures['max_length']}",
    ]
    if figures["packs"] is not None:
        parts.append(f"{figures['packs']:,} packs, {figures['fill']:.1%} full")
    told = {
        "validation_rows": "held out",
        "dropped": "dropped",
        "truncated": "truncated",
        "split": "parted",
        "near_duplicates": "near duplicates left out",
        "more_examples": "more by parting or unrolling",
        "exchanges": "exchanges left out",
        "images": "images",
    }
    parts += [f"{figures[what]:,} {words}" for what, words in told.items() if figures.get(what)]
    return " · ".join(parts)
