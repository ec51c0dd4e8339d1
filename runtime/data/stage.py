"""The data stage: sources → tokenized rows, with nothing lost in silence.

Parts of sources are tokenized, in several processes where there are many, and written as they come. What stays in memory are
some 30 bytes to a row: its digests, how many examples it became and how long they are.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime import console
from runtime.config import Config, DataConfig
from runtime.data.figures import figures, repeated
from runtime.data.limits import hold
from runtime.data.parts import Part, parts_of
from runtime.data.synthetic import rules_of
from runtime.faults import WRONG, RunFault
from runtime.model import load_tokenizer
from runtime.vocabulary import vocabulary_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from runtime.data.chosen import Chosen
    from runtime.data.dataset import Writer
    from runtime.data.encode import Faulty, Kind, Tokenized
    from runtime.data.joining import Joined
    from runtime.data.lengths import Long
    from runtime.data.near_duplicates import Sketch
    from runtime.data.packing import Packing

TOLD = ("unfit", "truncated", "split")
MOST_FAULTS = 100_000  # rows: then it is of no use to go on reading


def make_data(config: Config, _folder: Path, out: Path) -> dict[str, Any]:
    """Reads, tokenizes and masks all rows; writes them and returns the figures. Raises RunFault for rows that do not fit."""
    import numpy as np

    from runtime.data.chosen import chosen
    from runtime.data.dataset import Writer, sha256_of
    from runtime.data.joining import join
    from runtime.data.lengths import dropped_line, policy_of
    from runtime.data.packing import best_fit
    from runtime.data.workers import tokenized

    data, seed = config.data, config.train.seed
    vocabulary = vocabulary_of(load_tokenizer(config.model, config.template))
    writer = Writer(out)
    number = len(data.sources) + len(data.validation.sources if data.validation else ())
    rows = Rows(number, sees=config.model.vision is not None)
    for part in tokenized(_parts(config), config, vocabulary):
        rows.add(part, writer)
        if rows.faulty > MOST_FAULTS:
            break
    _refuse(rows, config)

    columns = rows.columns()
    picked = chosen(data, rows.by_source, columns.digests, seed=seed)
    near = _near_duplicates(rows, columns, picked, data)
    lost = _lost(columns, picked, near)
    lost["dropped"] += rows.bad
    total = int((picked.train + picked.validation).sum()) + rows.bad
    hold(data.limits, {name: lost[name] / max(1, total) for name in ("dropped", "truncated")})
    if lost["unfit"]:
        console.say("data", dropped_line(lost["unfit"], total, policy_of(config)))

    trained, held = picked.train * ~near, picked.validation * ~near
    train, validation = columns.order(trained), columns.order(held)
    if not len(train):
        raise RunFault("SG425", "no row is left for training", "raise data.max_length", exit_code=WRONG)
    lengths = columns.lengths[train].astype(np.int64)
    packs: Packing | Joined | None = None
    if data.packing:
        is_text = config.train.objective == "text"
        packs = join(*columns.documents(trained), data.max_length, seed=seed) if is_text else best_fit(lengths, data.max_length, seed=seed)
    writer.close(train, validation, packs)
    left = columns.examples > 0
    found = {
        "rows": picked.rows,
        "by_source": picked.by_source,
        "validation_by_source": picked.validation_sources,
        "train_rows": int(picked.train.sum()),
        "validation_rows": int(picked.validation.sum()),
        "validation_distinct": picked.held_distinct,
        "max_length": data.max_length,
        **figures(lengths, columns.trained[train], None if packs is None else len(packs), data.max_length),
        **repeated(columns.digests, trained * left, held * left, columns.prompts),
        **lost,
        "bad_rows": rows.bad,
        "more_examples": len(train) + len(validation) - int(((trained + held) * left).sum()),
        "exchanges": rows.exchanges,
        "images": rows.images,
        "sha256": sha256_of(out),
    }
    shares = {"trained": found["trained_tokens"] / found["tokens"], "duplicates": found["duplicates"], "overlap": found["overlap"]}
    hold(data.limits, shares)
    console.say("data", data_line(found))
    return found


def _parts(config: Config) -> Iterator[Part]:
    data, seed = config.data, config.train.seed
    rows_of = rules_of(data, seed=seed)
    for number, source in enumerate([*data.sources, *(data.validation.sources if data.validation else ())]):
        yield from parts_of(source, number, seed=seed, rows_of=rows_of, drop=data.on_bad_row == "drop")


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What is known of R rows and of the E examples that they became: `lengths` and `trained` tokens [E], the others [R]; the
    last three are numbers of rows: left out by the policy of lengths, shortened, parted."""

    lengths: NDArray[np.int32]
    trained: NDArray[np.int32]
    examples: NDArray[np.int32]
    digests: NDArray[np.uint64]
    prompts: NDArray[np.uint64]
    unfit: NDArray[np.int64]
    truncated: NDArray[np.int64]
    split: NDArray[np.int64]

    def documents(self, often_R: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the tokens of rows begin and end in the flat arrays, each row as often as it counts."""
        import numpy as np

        places = np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)])
        ends = np.cumsum(self.examples)
        often = np.where(self.examples > 0, often_R, 0)
        return np.repeat(places[ends - self.examples], often), np.repeat(places[ends], often)

    def order(self, often_R: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of examples, each as often as its row counts."""
        import numpy as np

        return np.repeat(np.arange(len(self.lengths)), np.repeat(often_R, self.examples))


@dataclass(slots=True)
class Rows:
    """What is gathered of the rows as they come."""

    sources: int
    by_source: list[int] = field(init=False)
    numbers: dict[str, array[int]] = field(init=False)
    sees: bool = False
    images: int = 0
    bad: int = 0
    exchanges: int = 0
    sketches: list[Sketch] = field(default_factory=list)
    faults: dict[Kind, Faulty] = field(default_factory=dict)
    long: dict[int, Long] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.by_source = [0] * self.sources
        kinds = {"lengths": "i", "trained": "i", "examples": "i", "digests": "Q", "prompts": "Q", **dict.fromkeys(TOLD, "q")}
        self.numbers = {name: array(kind) for name, kind in kinds.items()}

    @property
    def faulty(self) -> int:
        """Rows that no example came of, and that are told."""
        return sum(fault.rows for fault in self.faults.values()) + len(self.long)

    def add(self, part: Tokenized, writer: Writer) -> None:
        """Writes the examples of a part, and keeps its numbers."""
        import numpy as np

        from runtime.data.encode import Faulty

        writer.add(part.input_ids, part.trained, part.weights, part.lengths)
        if self.sees:
            writer.show(part.pictures, part.seen)
            self.images += len(part.pictures)
        known = len(self.numbers["examples"])
        before = np.concatenate([[0], np.cumsum(part.trained, dtype=np.int32)])
        ends = np.cumsum(part.lengths)
        trained = (before[ends] - before[ends - part.lengths]).astype(np.int32)
        found = {"lengths": part.lengths, "trained": trained, "examples": part.examples, "digests": part.digests, "prompts": part.prompts}
        for name, values in found.items():
            self.numbers[name].frombytes(values.tobytes())
        for name, told in zip(TOLD, (part.told.unfit, part.told.truncated, part.told.split), strict=True):
            self.numbers[name].extend(known + row for row in sorted(told))
        if part.sketches is not None:
            self.sketches.append(part.sketches)
        self.by_source[part.source] += len(part.examples)
        self.bad += part.told.bad
        self.exchanges += part.told.exchanges
        self.long |= part.told.long
        for kind, fault in part.told.faults.items():
            self.faults.setdefault(kind, Faulty()).add(fault.rows, fault.first)

    def columns(self) -> Columns:
        """All rows as arrays."""
        import numpy as np

        types = {"i": np.int32, "Q": np.uint64, "q": np.int64}
        return Columns(**{name: np.frombuffer(numbers, dtype=types[numbers.typecode]) for name, numbers in self.numbers.items()})


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
