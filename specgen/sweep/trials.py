"""The trials of a sweep: their values, their names, and their specs."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from specgen.compose import overlaid
from specgen.quoting import scalar
from specgen.schema import spec_schema
from specgen.source import Node
from specgen.source import scalar as read_scalar
from specgen.sweep.space import Parameter, Sweep
from specgen.validate import written as plain_written

MOST_DRAWS = 1000  # to find a combination that has not been drawn
LONGEST_LABEL = 60
NOT_OF_A_TRIAL = ("sweep", "profiles", "extends")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One combination of values; trials are counted from 1. `label` names it among the trials of its sweep."""

    number: int
    values: dict[str, Node]
    label: str

    @property
    def told(self) -> str:
        """The values for a message."""
        return ", ".join(f"{path} {written(node)}" for path, node in self.values.items())


def listed(sweep: Sweep) -> Iterator[Trial]:
    """The trials of a grid or a random sweep, in their order. Of one that Optuna chooses: trials with the values that it may choose."""
    combinations = _grid(sweep) if sweep.method == "grid" else _drawn(sweep)
    for number, values in enumerate(itertools.islice(combinations, sweep.trials), start=1):
        yield trial(number, values)


def trial(number: int, values: dict[str, Node]) -> Trial:
    """A trial with its label."""
    return Trial(number=number, values=values, label=_label(values))


def _grid(sweep: Sweep) -> Iterator[dict[str, Node]]:
    paths = [parameter.path for parameter in sweep.parameters]
    for values in itertools.product(*map(_every, sweep.parameters)):
        yield dict(zip(paths, values, strict=True))


def _every(parameter: Parameter) -> list[Node]:
    count = parameter.count
    assert count is not None, parameter
    return [at(parameter, (index + 0.5) / count) for index in range(count)]


def _drawn(sweep: Sweep) -> Iterator[dict[str, Node]]:
    """Different combinations at random. Python keeps the numbers of random.random() for a seed from version to version."""
    numbers, seen = random.Random(sweep.seed), set()  # noqa: S311  (chance, not secrecy)
    for _ in range(MOST_DRAWS * sweep.trials):
        values = {parameter.path: at(parameter, numbers.random()) for parameter in sweep.parameters}
        drawn = _canonical(values)
        if drawn not in seen:
            seen.add(drawn)
            yield values


def at(parameter: Parameter, position: float) -> Node:
    """The value of a parameter at a position from 0 up to, not including, 1."""
    if parameter.range is None:
        return with_key(parameter, parameter.values[int(position * len(parameter.values))])
    return placed_number(parameter, parameter.range.at(position))


def placed_number(parameter: Parameter, number: float) -> Node:
    """A number out of a parameter's range, which stands where the range stands."""
    return Node(value=number, place=parameter.place, key=parameter.key)


def with_key(parameter: Parameter, value: Node) -> Node:
    """One of a parameter's values, as standing under the parameter's path."""
    return replace(value, key=parameter.key)


def with_values(tree: Node, values: dict[str, Node]) -> Node:
    """A tree with values laid over it, each at its path with dots: as --set does, but all at once."""
    over: dict[str, Node] = {}
    for path, value in values.items():
        over = _put(over, path.split("."), value)
    return overlaid(tree, Node(value=over), spec_schema())


def _put(children: dict[str, Node], steps: list[str], value: Node) -> dict[str, Node]:
    """Nested mappings with a value at a path. Unlike layers laid over each other, what says the same in two ways stays."""
    first, *rest = steps
    inner = children[first].children if first in children else {}
    found = replace(value, value=_put(inner, rest, value), raw=None) if rest else value
    return {**children, first: found}


def trial_tree(tree: Node, of: Trial) -> Node:
    """The spec of a trial: that of the sweep with the trial's values and a name of its own."""
    composed = with_values(tree, of.values)
    children = {key: child for key, child in composed.children.items() if key not in NOT_OF_A_TRIAL}
    name = children["name"]
    return replace(composed, value={**children, "name": replace(name, value=trial_name(str(name.value), of))})


def trial_name(name: str, of: Trial) -> str:
    """`assistant` and the trial's label, cut to what the schema allows."""
    allowed = spec_schema()["properties"]["name"]["maxLength"]
    return f"{name[: allowed - len(of.label) - 1]}-{of.label}"


def written(node: Node) -> str:
    """A value as a spec says it, on one line."""
    if node.raw is not None and not isinstance(node.value, str):
        return node.raw
    return scalar(node.value) if isinstance(node.value, float) else plain_written(node.plain())


def as_setting(path: str, value: object) -> str:
    """`train.learning_rate=0.0002`: a plain value as --set takes it."""
    is_plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", value) and read_scalar(value) == value
    text = value if is_plain else scalar(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
    return f"{path}={text}"


def _label(values: dict[str, Node]) -> str:
    """`learning_rate-0.0002_r-16`: short, the same for the same values, and different for others."""
    names = _short_names(list(values))
    parts = [f"{name}-{_word(node)}" for name, node in zip(names, values.values(), strict=True)]
    label = "_".join(parts)
    digest = hashlib.sha256(_canonical(values).encode()).hexdigest()[:8]
    exact = all(_word(node) == _exact(node) for node in values.values())
    return label if exact and len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 9].rstrip('-._')}-{digest}"


def _short_names(paths: list[str]) -> list[str]:
    """The last word of each path, or as many as tell them apart."""
    for count in range(1, max(path.count(".") for path in paths) + 2):
        names = [".".join(path.split(".")[-count:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return paths


def _word(node: Node) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", _exact(node)).strip("-") or "empty"


def _exact(node: Node) -> str:
    value = node.value
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}".replace("e+", "e")
    return value if isinstance(value, str) else json.dumps(node.plain(), ensure_ascii=False)


def _canonical(values: dict[str, Node]) -> str:
    return json.dumps({path: node.plain() for path, node in values.items()}, sort_keys=True)
