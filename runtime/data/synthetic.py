"""The conversations of synthetic sources, by the rules that the compiler checked them with (conversations/rules.py)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from conversations.row import Conversation
from conversations.rules import RowsOf, conversations_of, rows_of_rules
from runtime.config import DataConfig, FileVariable, Source, SyntheticSource, Variable, sources_of, to_plain
from runtime.faults import WRONG, RunFault


def rules_of(data: DataConfig, *, seed: int, more: Iterable[Source] = ()) -> RowsOf:
    """The rows of the named synthetic sources, for the variables of others: each is made when it is asked for. `more` come last."""
    sources = [*sources_of(data), *more]
    named = {source.name: source for source in reversed(sources) if isinstance(source, SyntheticSource) and source.name}
    return rows_of_rules({str(name): _rule(source) for name, source in named.items()}, seed=seed)


def synthetic_rows(source: SyntheticSource, *, seed: int, rows_of: RowsOf) -> Iterator[Conversation]:
    """A conversation for each combination of the variables, before repeat. Raises RunFault for a file that has changed."""
    return conversations_of(_rule(source), seed=seed, rows_of=rows_of)


def plain_variables(variables: dict[str, Variable]) -> dict[str, Any]:
    """Variables as conversations/variables.py takes them. Raises RunFault where a file is not the one that was checked."""
    return {name: _variable(variable) for name, variable in variables.items()}


def require_unchanged(path: str, sha256: str) -> None:
    """Raises RunFault where a file is not the one that the compiler has seen, or not to be had."""
    try:
        with Path(path).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        hint = f"paths start at the working folder, {Path.cwd()}"
        raise RunFault("SG205", f"{path} cannot be read: {error.strerror}", hint, exit_code=WRONG) from None
    if found != sha256:
        raise RunFault("SG423", f"{path} has changed since the spec was compiled", "compile the spec again", exit_code=WRONG)


def _rule(source: SyntheticSource) -> dict[str, Any]:
    return {**to_plain(source), "variables": plain_variables(source.variables)}


def _variable(variable: Variable) -> Any:
    if isinstance(variable, tuple):
        return list(variable)
    if isinstance(variable, FileVariable):
        require_unchanged(variable.path, variable.sha256)
    return {variable.TAG: to_plain(variable)}
