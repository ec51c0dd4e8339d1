"""What is known of the rows: gathered as they come, in columns once all are there, and what of them is left to train on.

Some 30 bytes to a row: its digests, how many examples it became and how long they are.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from runtime.data.dataset import Writer
    from runtime.data.encode import Faulty, Kind, Tokenized
    from runtime.data.lengths import Long
    from runtime.data.near_duplicates import Sketch

TOLD = ("unfit", "truncated", "split")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What is left of R rows and E examples: how often each row counts [R], the numbers of the examples in their order, each as
    often as it counts, and the lengths in tokens of those for training, int64."""

    train_counts: NDArray[np.int64]
    validation_counts: NDArray[np.int64]
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    lengths: NDArray[np.int64]


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
