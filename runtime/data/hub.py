"""Rows of a data set on the Hugging Face hub, through `datasets`, checked by the same rules as the rows of files.

`datasets` is imported only here, and only where a spec names the hub: it takes more than a second.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from typing import Any

from conversations.row import Row, plain_row
from runtime.config import HubSource
from runtime.data.formats import turns_of
from runtime.faults import WRONG, RunFault

MOST_FAULTS = 20
NAMED = {"role", "content", "from", "value"}  # null in one of these is a fault of the row; in others it is Arrow's "not there"


def read_hub(source: HubSource) -> list[Row]:
    """All rows of a split. Raises RunFault where it is not to be had, or for rows that do not have the format."""
    return checked(_load(source), source)


def checked(found: Iterable[dict[str, Any]], source: HubSource) -> list[Row]:
    """The rows as conversations. Raises RunFault that lists those that do not have the format."""
    rows: list[Row] = []
    faults: list[str] = []
    for index, row in enumerate(found):
        turns, problems = turns_of(_without_nulls(row), source.format)
        faults += [f"  row {index}: {problem}" for problem in problems]
        rows.append(plain_row(turns))
    if not rows:
        raise RunFault("SG418", f"the split {source.split} of {name_of(source)} holds no rows", exit_code=WRONG)
    if faults:
        shown = faults[:MOST_FAULTS]
        if len(faults) > MOST_FAULTS:
            shown.append(f"  and {len(faults) - MOST_FAULTS:,} more like these")
        message = f"rows of {name_of(source)} do not have the format {source.format}"
        raise RunFault("SG418", "\n".join([message, *shown]), "name the right format, or another data set", exit_code=WRONG)
    return rows


def name_of(source: HubSource) -> str:
    """How the data set is called in messages: OWNER/NAME@REVISION, and its subset."""
    return f"{source.repo}@{source.revision or 'main'}" + (f" ({source.subset})" if source.subset else "")


def _load(source: HubSource) -> Iterable[dict[str, Any]]:
    if importlib.util.find_spec("datasets") is None:
        raise RunFault(
            "SG416", "data sets on the hub need `datasets`, which is not installed", "pip install 'specgen[train]'", exit_code=WRONG
        )
    import datasets
    from datasets.exceptions import DatasetNotFoundError

    datasets.disable_progress_bars()
    try:
        found: Iterable[dict[str, Any]] = datasets.load_dataset(
            source.repo, name=source.subset, split=source.split, revision=source.revision
        )
    except DatasetNotFoundError:
        hint = "check name and revision; for a private or gated data set set HF_TOKEN"
        raise RunFault("SG417", f"the hub has no data set {name_of(source)}, or not for you", hint, exit_code=WRONG) from None
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise RunFault("SG417", f"{name_of(source)} is not to be had: {reason}", "see data.sources of the spec") from None
    return found


def _without_nulls(value: Any) -> Any:
    """A row without the keys that Arrow fills in with null because other rows have them."""
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None or key in NAMED}
    return value
