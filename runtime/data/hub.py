"""Rows of a data set on the Hugging Face hub, through `datasets`, read and checked as the rows of files are.

`datasets` is imported only here, and only where a spec names the hub: it takes more than a second.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from conversations.files import without_nulls
from conversations.formats import reader
from conversations.problems import Problem
from conversations.row import Conversation
from conversations.rows import FIRST, fitting_format, missing_column
from runtime.config import HubSource
from runtime.data.as_compiled import shape_of_source
from runtime.faults import WRONG, RunFault

MOST_FAULTS = 20  # of each kind
TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{6,}")


def conversations_of(source: HubSource, *, drop: bool = False) -> Iterator[Conversation | list[Problem]]:
    """All rows of a split; with `streaming: true` none but those that are asked for are fetched. With `drop`, a row that does not
    have the format is what is wrong with it. Raises RunFault where the data set is not to be had, or for rows that do not fit."""
    return checked(_load(source), source, drop=drop)


def checked(found: Iterable[dict[str, Any]], source: HubSource, *, drop: bool = False) -> Iterator[Conversation | list[Problem]]:
    """The rows as conversations; with `drop`, what is wrong with a row in its place.

    Raises RunFault after the last row, for there may be more faults, and lists them all: of each kind 20 and the number of the rest.
    """
    read, faults, good, first_rows = reader(shape_of_source(source)), _Faults(), 0, list[object]()
    for number, row in enumerate(found, start=1):
        columns = {name: without_nulls(value) for name, value in row.items()}
        if number <= FIRST:
            first_rows.append(columns)
        conversation, problems = read(columns)
        if problems:
            faults.add(number, problems)
            if drop:
                yield problems
        else:
            good += 1
            yield conversation
    if not good and not faults.rows:
        raise RunFault("SG418", f"the split {source.split} of {name_of(source)} holds no rows", exit_code=WRONG)
    if faults.rows and not (drop and good):
        what = f"rows of {name_of(source)} do not have the format {source.format}"
        raise RunFault("SG418", "\n".join([what, *faults.lines()]), _hint(first_rows, source), exit_code=WRONG)


def name_of(source: HubSource) -> str:
    """How the data set is called in messages: OWNER/NAME@REVISION, and its subset."""
    return f"{source.repo}@{source.revision or 'main'}" + (f" ({source.subset})" if source.subset else "")


@dataclass(slots=True)
class _Faults:
    """Faults of rows by their kinds: the lines that are shown, and how many there are."""

    rows: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    shown: dict[str, list[str]] = field(default_factory=dict)

    def add(self, number: int, problems: list[Problem]) -> None:
        self.rows += 1
        for problem in problems:
            self.counts[problem.kind] = self.counts.get(problem.kind, 0) + 1
            lines = self.shown.setdefault(problem.kind, [])
            if len(lines) < MOST_FAULTS:
                lines.append(f"  row {number}: {problem.text}")

    def lines(self) -> Iterator[str]:
        for kind, lines in self.shown.items():
            yield from lines
            if self.counts[kind] > MOST_FAULTS:
                yield f"  and {self.counts[kind] - MOST_FAULTS:,} more of this kind: {kind}"


def _hint(first: list[object], source: HubSource) -> str:
    shape = shape_of_source(source)
    if shape.row is None and (other := fitting_format(first, shape.format)):
        return f"write format: {other}"
    lacking = missing_column(first, shape)
    if lacking and lacking[2]:
        return f"write fields: {{{lacking[0]}: {lacking[2]}}}"
    return f"its columns are {', '.join(lacking[1])}" if lacking else "name the right format, or another data set"


def _load(source: HubSource) -> Iterable[dict[str, Any]]:
    if importlib.util.find_spec("datasets") is None:
        raise RunFault(
            "SG416", "data sets on the hub need `datasets`, which is not installed", "pip install 'specgen[train]'", exit_code=WRONG
        )
    import datasets

    datasets.disable_progress_bars()
    wanted = {"name": source.subset, "split": source.split, "revision": source.revision, "streaming": source.streaming}
    with _telling(source):
        found: Iterable[dict[str, Any]] = datasets.load_dataset(source.repo, **wanted)
    return _told(found, source)


def _told(found: Iterable[dict[str, Any]], source: HubSource) -> Iterator[dict[str, Any]]:
    """The rows; what fails while they come is told as what fails before."""
    rows = iter(found)
    while True:
        with _telling(source):
            row = next(rows, None)
        if row is None:
            return
        yield row


@contextmanager
def _telling(source: HubSource) -> Iterator[None]:
    """Whatever `datasets` and the network raise becomes a RunFault."""
    from datasets.exceptions import DatasetNotFoundError

    name = name_of(source)
    try:
        yield
    except DatasetNotFoundError:
        hint = "check name and revision; for a private or gated data set set HF_TOKEN"
        raise RunFault("SG417", f"the hub has no data set {name}, or not for you", hint, exit_code=WRONG) from None
    except Exception as error:  # the libraries below have errors of many kinds
        reason = TOKEN.sub("********", str(error).partition("\n")[0])
        raise RunFault("SG417", f"{name} is not to be had: {reason}", "see data.sources of the spec") from None
