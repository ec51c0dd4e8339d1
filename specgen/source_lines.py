"""The sources of a plan in words: what they are, how many rows they give, and what pins them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from specgen.plan import FileSource, FileVariable, HubSource, LlmSource, RangeVariable, RuleVariable, Source, SyntheticSource, Variable
from specgen.quoting import count

Line = tuple[str, str, str]  # what, rows, pin


def source_lines(sources: Iterable[Source]) -> list[Line]:
    """A line for each source, and for each file of one."""
    return [line for source in sources for line in _lines(source)]


def _lines(source: Source) -> Iterator[Line]:
    if isinstance(source, FileSource):
        for file in source.files:
            bad = f", {file.bad_rows:,} left out" if file.bad_rows else ""
            yield _named(source, file.path), f"{file.rows:,}{bad}{_mix(source)}", file.sha256[:16]
    elif isinstance(source, HubSource):
        subset = f", {source.subset}" if source.subset else ""
        yield _named(source, f"hub: {source.repo}{subset}, {source.split}{_mix(source)}"), count(source.rows), source.revision or "main"
    elif isinstance(source, LlmSource):
        asked = f"{source.requests:,} requests to {source.model}{' here' if source.local else ''}"
        yield _named(source, f"llm: {asked}{_mix(source)}"), count(source.rows), ""
    else:
        yield _named(source, f"synthetic: {_rule(source)}{_mix(source)}"), count(source.rows), ""


def _named(source: Source, what: str) -> str:
    return f"{source.name}: {what}" if source.name else what


def _rule(source: SyntheticSource) -> str:
    names = [f"{name} ({_values(variable)})" for name, variable in source.variables.items()]
    joined = (" x " if source.combine == "product" else " with ").join(names)
    sampled = f"{source.sample:,} of {joined}" if source.sample else joined
    return f"{sampled} x {source.repeat}" if names else f"{source.repeat}"


def _values(variable: Variable) -> str:
    if isinstance(variable, RangeVariable):
        return f"{variable.start} to {variable.stop}"
    if isinstance(variable, FileVariable):
        return f"{variable.path}, {variable.rows:,}"
    return f"rule {variable.name}" if isinstance(variable, RuleVariable) else str(len(variable))


def _mix(source: Source) -> str:
    """How the rows are mixed with the others', where that is said."""
    weight = getattr(source, "weight", 1.0)
    share = f", {source.share:.1%} of all rows" if source.share is not None else f" x {weight}" if weight != 1 else ""
    return share + (f", at most {source.limit:,}" if source.limit is not None else "")
