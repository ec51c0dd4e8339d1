"""Compares two compiled specs: the settings that differ, and what follows from each."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from specgen.compiler import Compiled
from specgen.diff.stages import run_again
from specgen.facts.gather import Facts, gather
from specgen.facts.marking import marked, marking_of, plain_text
from specgen.facts.rowtable import MOST_TEXTS
from specgen.memory import memory_plan
from specgen.plan import Plan
from specgen.resolve import resolve
from specgen.schedule import divides
from specgen.sizes import BYTES, gib, shortest, size
from specgen.source import Node
from specgen.summary import total_tokens
from specgen.trainable import trainable_parameters

MOST_SETTINGS = 40  # of more than that no causes are looked for: the specs have little in common
MOST_ROWS = 1000
FACTS_COME_FROM = ("model.base", "template", "data", "train.seed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Consequence:
    """A value that follows from settings, on both sides; `unit` stands behind it."""

    name: str
    before: str
    after: str
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A key whose value differs; None where one side does not have it. `follows` is what it changes by itself."""

    key: str
    before: str | None
    after: str | None
    follows: tuple[Consequence, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Everything that differs. `rest` are consequences that no single setting brings about alone."""

    settings: tuple[Setting, ...]
    rest: tuple[Consequence, ...]
    notes: tuple[str, ...]
    again: tuple[str, ...]


def compare(before: Compiled, after: Compiled) -> Difference:
    """What changes from one compiled spec to another."""
    old, new = dict(leaves(before.tree)), dict(leaves(after.tree))
    changed = [key for key in {**old, **new} if _differs(old.get(key), new.get(key))]
    derived = _derived(before, after)
    settings = tuple(
        Setting(
            key=key,
            before=said(old.get(key)),
            after=said(new.get(key)),
            follows=tuple(_follows(before, after, key, derived)) if len(changed) <= MOST_SETTINGS else (),
        )
        for key in changed
    )
    explained = {consequence for setting in settings for consequence in setting.follows}
    return Difference(
        settings=settings,
        rest=tuple(consequence for consequence in derived if consequence not in explained),
        notes=(*_rows_that_differ(before, after), *_spans_that_differ(before, after)),
        again=tuple(run_again(before.plan, after.plan)),
    )


def leaves(node: Node, path: str = "") -> Iterator[tuple[str, Node]]:
    """Every setting by its dotted key; a list is one setting, but for data.sources, which are one each."""
    if isinstance(node.value, dict) and node.value:
        for key, child in node.value.items():
            if path or key != "profiles":
                yield from leaves(child, f"{path}.{key}" if path else key)
    elif path == "data.sources":
        for index, item in enumerate(node.items):
            yield from leaves(item, f"{path}[{index}]")
    else:
        yield path, node


def said(node: Node | None) -> str | None:
    """A value as the spec says it, on one line."""
    if node is None:
        return None
    value = node.plain()
    if isinstance(value, float):
        return shortest(value)
    if node.raw is not None:
        return node.raw or "null"
    return value if isinstance(value, str) and value.isprintable() and value else json.dumps(value, ensure_ascii=False)


def _differs(before: Node | None, after: Node | None) -> bool:
    return (before and before.plain()) != (after and after.plain()) or (before is None) != (after is None)


def _exported(plan: Plan, facts: Facts) -> str | None:
    if facts.model is None or not facts.model.parameters:
        return None
    return size(facts.model.parameters * BYTES[plan.export.merged.dtype])


def _memory(plan: Plan, facts: Facts) -> str | None:
    found = memory_plan(plan, facts.model, facts.figures)
    return gib(found.total) if found else None


Figure = Callable[[Plan, Facts], object]
# what follows from a spec: name → how it is worked out, and how it is written
FIGURES: dict[str, tuple[Figure, str]] = {
    "rows": (lambda plan, _: plan.data.rows, ""),
    "rows held out": (lambda plan, _: plan.data.validation.rows if plan.data.validation else 0, ""),
    "training examples": (lambda plan, _: plan.data.examples, ""),
    "tokens": (total_tokens, ""),
    "longest row": (lambda _, facts: facts.figures and facts.figures.longest, "tokens in the longest row"),
    "dropped": (lambda _, facts: facts.figures and facts.figures.dropped, "rows dropped as too long"),
    "truncated": (lambda _, facts: facts.figures and facts.figures.truncated, "rows cut as too long"),
    "steps": (lambda plan, _: plan.train.total_steps, "steps"),
    "warm-up": (lambda plan, _: plan.train.warmup_steps, "steps of warm-up"),
    "rows a forward pass": (lambda plan, _: plan.train.micro_batch_size, ""),
    "accumulation": (lambda plan, _: plan.train.gradient_accumulation_steps, "micro batches accumulated"),
    "processes": (lambda plan, _: plan.distributed.world_size, "processes"),
    "trainable parameters": (lambda plan, facts: trainable_parameters(plan, facts.model) if facts.model else None, ""),
    "exported model": (_exported, ""),
    "memory a device": (_memory, ""),
}


def _derived(before: Compiled, after: Compiled) -> list[Consequence]:
    return list(_consequences(before.plan, before.facts, after.plan, after.facts))


def _consequences(old: Plan, old_facts: Facts, new: Plan, new_facts: Facts) -> Iterator[Consequence]:
    for name, (figure, unit) in FIGURES.items():
        before, after = figure(old, old_facts), figure(new, new_facts)
        if before != after:
            yield Consequence(name=name, before=_number(before), after=_number(after), unit=unit)


def _number(value: object) -> str:
    return "unknown" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _follows(before: Compiled, after: Compiled, key: str, derived: list[Consequence]) -> Iterator[Consequence]:
    """What this one setting changes by itself, of what changes in all."""
    if not derived:
        return
    tree = _with(before.tree, after.tree, _steps(key))
    if tree is None or not divides(tree):
        return
    reads_facts = any(key == part or key.startswith((f"{part}.", f"{part}[")) for part in FACTS_COME_FROM)
    facts = replace(gather(tree)[0], figures=None) if reads_facts else before.facts
    try:
        plan = resolve(tree, facts)
    except (AssertionError, KeyError, TypeError, ValueError):
        return  # half of a change need not make sense
    names = {consequence.name for consequence in derived}
    yield from (found for found in _consequences(before.plan, before.facts, plan, facts) if found.name in names)


def _steps(key: str) -> list[str | int]:
    steps: list[str | int] = []
    for part in key.split("."):
        name, *indices = part.replace("]", "").split("[")
        steps += [name, *(int(index) for index in indices)]
    return steps


def _with(base: Node, other: Node, steps: list[str | int]) -> Node | None:
    """The base tree with one value of the other; None where its surroundings are not there."""
    if not steps:
        return other
    step, rest = steps[0], steps[1:]
    mine, theirs = base.child(step), other.child(step)
    if isinstance(step, int):
        if mine is None or theirs is None:
            return None
        inner = _with(mine, theirs, rest)
        return None if inner is None else replace(base, value=[inner if index == step else item for index, item in enumerate(base.items)])
    if theirs is None:
        return replace(base, value={key: child for key, child in base.children.items() if key != step}) if base.children else None
    inner = theirs if mine is None else _with(mine, theirs, rest)
    return None if inner is None else replace(base, value={**base.children, step: inner})


def _rows_that_differ(before: Compiled, after: Compiled) -> Iterator[str]:
    now, then = _row_counts(after), _row_counts(before)
    added, removed = now - then, then - now
    if added or removed:
        yield f"rows of the data: {added.total():,} added, {removed.total():,} removed"


def _row_counts(compiled: Compiled) -> Counter[int]:
    """How often each row counts, by its digest."""
    counts: Counter[int] = Counter()
    for source in compiled.facts.sources:
        for digest, count in zip(source.table.digests if source.table else (), source.counts or (), strict=False):
            counts[digest] += count
    return counts


def _spans_that_differ(before: Compiled, after: Compiled) -> Iterator[str]:
    """How many of the rows that both have are rendered otherwise."""
    kept = set(after.facts.first_rows(MOST_TEXTS))
    common = list(islice((row for row in dict.fromkeys(before.facts.first_rows(MOST_TEXTS)) if row in kept), MOST_ROWS))
    differing = sum(_rendered(row, before) != _rendered(row, after) for row in common) if _renders_otherwise(before, after) else 0
    if differing:
        capped = " (of the first ones)" if len(common) == MOST_ROWS else ""
        yield f"the trained span or its context differs in {differing:,} of {len(common):,} distinct rows{capped}"


def _renders_otherwise(before: Compiled, after: Compiled) -> bool:
    return _rendering(before) != _rendering(after)


def _rendering(compiled: Compiled) -> tuple[object, ...]:
    return (compiled.facts.template_text, marking_of(compiled.plan.data), compiled.plan.train.objective)


def _rendered(row: str, compiled: Compiled) -> str | None:
    if compiled.plan.train.objective == "text":
        return plain_text(row)
    template = compiled.facts.template_text
    try:
        return None if template is None else marked(template, row, marking_of(compiled.plan.data))
    except Exception:  # a template may refuse a row that is not among the first, which the checks look at
        return None
