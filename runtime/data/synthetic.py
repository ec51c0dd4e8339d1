"""The conversations of synthetic sources, by the rules that the compiler checked them with (conversations/rules.py)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from conversations.row import Conversation
from conversations.rules import RowsOf, conversations_of, rows_of_rules
from runtime.config import DataConfig, FileVariable, Source, SyntheticSource, Variable, sources_of, to_plain
from runtime.data.as_compiled import require_unchanged


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


def _rule(source: SyntheticSource) -> dict[str, Any]:
    return {**to_plain(source), "variables": plain_variables(source.variables)}


def _variable(variable: Variable) -> Any:
    if isinstance(variable, tuple):
        return list(variable)
    if isinstance(variable, FileVariable):
        require_unchanged(variable.path, variable.sha256)
    return {variable.TAG: to_plain(variable)}
