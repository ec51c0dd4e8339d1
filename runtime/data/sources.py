"""The conversations that the config names, as distinct rows with how often each counts.

The compiler has checked every row; a data file is read only while its SHA-256 is what the compiler saw.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from runtime.config import DataConfig, FileSource, SyntheticSource
from runtime.faults import WRONG, RunFault

Row = str  # canonical JSON of [[role, content], …]: equal rows are equal texts


def read_sources(data: DataConfig, *, seed: int) -> tuple[Counter[Row], set[Row]]:
    """All rows with their counts, in the order of the sources; and the rows held out for validation."""
    counts: Counter[Row] = Counter()
    for source in data.sources:
        counts.update(_synthetic(source) if isinstance(source, SyntheticSource) else _files(source, seed))
    assert counts.total() == data.rows, (counts.total(), data.rows)
    held: set[Row] = set()
    if data.validation is not None:
        ranked = sorted(counts, key=lambda row: _rank(row, seed))
        held = set(ranked[: data.validation.distinct_rows])
        assert sum(counts[row] for row in held) == data.validation.rows, data.validation
    return counts, held


def _synthetic(source: SyntheticSource) -> Counter[Row]:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    # as the compiler does: Jinja would change line ends of a text that asks nothing of it
    texts = [
        (
            message.role,
            environment.from_string(message.content).render if "{" in message.content else lambda _values, text=message.content: text,
        )
        for message in source.messages
    ]
    counts: Counter[Row] = Counter()
    for values in itertools.product(*source.variables.values()):
        named = dict(zip(source.variables, values, strict=True))
        counts[canonical([(role, render(named)) for role, render in texts])] += source.repeat
    return counts


def _files(source: FileSource, seed: int) -> Counter[Row]:
    rows = [row for file in source.files for row in _file(file.path, file.sha256)]
    whole = int(source.weight)
    extra = round((source.weight - whole) * len(rows))
    by_seed = sorted(range(len(rows)), key=lambda index: _rank(f"{index}", seed))
    counts: Counter[Row] = Counter()
    for row in rows:
        counts[row] += whole
    counts.update(rows[index] for index in by_seed[:extra])
    return +counts


def _file(path: str, sha256: str) -> Iterator[Row]:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        hint = f"paths start at the working folder, {Path.cwd()}"
        raise RunFault("SG205", f"{path} cannot be read: {error.strerror}", hint, exit_code=WRONG) from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise RunFault("SG423", f"{path} has changed since the spec was compiled", "compile the spec again", exit_code=WRONG)
    for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        if line.strip():
            yield canonical([(message["role"], message["content"]) for message in json.loads(line)["messages"]])


def canonical(messages: list[tuple[str, str]]) -> Row:
    """A conversation as text; the same for the same roles and contents."""
    return json.dumps(messages, ensure_ascii=False, separators=(",", ":"))


def messages_of(row: Row) -> list[dict[str, str]]:
    """A row as chat messages."""
    return [{"role": role, "content": content} for role, content in json.loads(row)]


def _rank(text: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{text}".encode()).digest()
