"""The conversations that the config names, as distinct rows with how often each counts.

The compiler has checked every row of a file, which is read only while its SHA-256 is what the compiler saw.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from conversations.row import Row, plain_row
from runtime.config import DataConfig, FileSource, Format, HubSource, Source, SyntheticSource
from runtime.data.formats import turns_of
from runtime.data.hub import read_hub
from runtime.faults import WRONG, RunFault


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """All rows: how often each distinct one counts, in the order of the sources; those held out for validation; and how many
    rows, with repetitions, each source gives."""

    counts: Counter[Row]
    held: frozenset[Row]
    by_source: tuple[int, ...]


def read_sources(data: DataConfig, *, seed: int) -> Gathered:
    """The rows of all sources. Raises RunFault where one is not to be had."""
    counts: Counter[Row] = Counter()
    by_source = []
    for source in data.sources:
        found = _rows_of(source, seed)
        counts.update(found)
        by_source.append(found.total())
    held: list[Row] = []
    if data.validation is not None and counts:
        number = data.validation.count or max(1, round((data.validation.fraction or 0) * len(counts)))
        held = sorted(counts, key=lambda row: _rank(row, seed))[:number]
    return Gathered(counts=counts, held=frozenset(held), by_source=tuple(by_source))


def _rows_of(source: Source, seed: int) -> Counter[Row]:
    if isinstance(source, SyntheticSource):
        return _synthetic(source)
    if isinstance(source, HubSource):
        return weighted(read_hub(source), source.weight, seed)
    assert isinstance(source, FileSource), "not made yet"
    rows = [row for file in source.files for row in _file(file.path, file.sha256, source.format)]
    return weighted(rows, source.weight, seed)


def _synthetic(source: SyntheticSource) -> Counter[Row]:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    # as the compiler does: Jinja would change line ends of a text that asks nothing of it
    texts = [
        (
            message.role,
            environment.from_string(str(message.content)).render if "{" in message.content else lambda _values, text=message.content: text,
        )
        for message in source.messages
    ]
    counts: Counter[Row] = Counter()
    lists = [values for values in source.variables.values() if isinstance(values, tuple)]
    for values in itertools.product(*lists):
        named = dict(zip(source.variables, values, strict=True))
        counts[plain_row([(role, render(named)) for role, render in texts])] += source.repeat
    return counts


def weighted(rows: Sequence[Row], weight: float, seed: int) -> Counter[Row]:
    """How often each row counts: all of them floor(weight) times, and the rest of weight by the seed, whole rows."""
    whole = int(weight)
    extra = round((weight - whole) * len(rows))
    by_seed = sorted(range(len(rows)), key=lambda index: _rank(f"{index}", seed)) if extra else []
    counts: Counter[Row] = Counter()
    for row in rows:
        counts[row] += whole
    counts.update(rows[index] for index in by_seed[:extra])
    return +counts


def _file(path: str, sha256: str, form: Format) -> Iterator[Row]:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        hint = f"paths start at the working folder, {Path.cwd()}"
        raise RunFault("SG205", f"{path} cannot be read: {error.strerror}", hint, exit_code=WRONG) from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise RunFault("SG423", f"{path} has changed since the spec was compiled", "compile the spec again", exit_code=WRONG)
    for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        if line.strip():
            turns, problems = turns_of(json.loads(line), form)
            assert not problems, problems  # these very bytes have passed the compiler
            yield plain_row(turns)


def _rank(text: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{text}".encode()).digest()
