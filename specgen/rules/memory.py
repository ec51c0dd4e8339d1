"""The memory gates: they need the plan, so they run when nothing else is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from specgen.compose import with_settings
from specgen.defaults import complete
from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts
from specgen.plan import Plan
from specgen.rules import RULES, adapter, checkpoints, hardware, initial, matrix, optimizer, rates, spike, train, vision, zero
from specgen.sizes import gib, merging_bytes
from specgen.source import Node
from specgen.validate import place_of

if TYPE_CHECKING:
    from specgen.memory import MemoryPlan

OF_SETTINGS = (adapter, checkpoints, hardware, initial, matrix, optimizer, rates, spike, train, vision, zero)


def everything_fits(tree: Node, plan: Plan, facts: Facts) -> Iterator[Diagnostic]:
    """All gates, for training and for what comes after it."""
    yield from memory_fits(tree, plan, facts)
    yield from merging_fits(tree, plan, facts)


def memory_fits(tree: Node, plan: Plan, facts: Facts, measured: MemoryPlan | None = None) -> Iterator[Diagnostic]:
    """hardware.device_memory is enough for a training step, as worked out or, where that is at hand, as measured."""
    limit = plan.hardware.device_memory
    if limit is None:
        return
    from specgen.memory import memory_plan

    place = place_of(tree, "hardware", "device_memory")
    needed = measured or memory_plan(plan, facts.model, facts.figures)
    if needed is None:
        message = "hardware.device_memory is set, and what training needs is not known: the base model's sizes are not"
        yield Diagnostic(code="SG282", severity="warning", message=message, place=place, hint="specgen plan --measure finds it out")
    elif needed.total > limit:
        part, size = needed.largest
        message = (
            f"training needs {gib(needed.total)} a device with rows of {needed.row_tokens:,} tokens, and "
            f"hardware.device_memory is {gib(limit)}; the largest part is {part}, {gib(size)}"
        )
        yield Diagnostic(code="SG281", message=message, place=place, hint=_hint(tree, plan, facts, limit))


def merging_fits(tree: Node, plan: Plan, facts: Facts) -> Iterator[Diagnostic]:
    """A GPU that is told to merge has room for it: the whole model is compared in float32. Left to itself, the run takes the CPU."""
    limit = plan.hardware.device_memory
    if limit is None or plan.export.merged.device != "cuda" or facts.model is None or not facts.model.sizes_known:
        return
    needed = merging_bytes(facts.model.parameters)
    if needed > limit:
        message = f"merging compares the whole model in float32, {gib(needed)}, and hardware.device_memory is {gib(limit)}"
        place = place_of(tree, "export", "merged", "device")
        hint = "write auto or cpu: the CPU then merges, in as much memory of its own"
        yield Diagnostic(code="SG283", message=message, place=place, hint=hint)


def _hint(tree: Node, plan: Plan, facts: Facts, limit: int) -> str:
    from specgen.memory import memory_plan
    from specgen.memory.fitting import remedies

    if facts.model is None or memory_plan(plan, facts.model, facts.figures) is None:  # a step that was measured
        return "gradient checkpointing and smaller micro batches need less"
    found = remedies(plan, facts.model, facts.figures, limit, allowed=lambda settings: _is_allowed(tree, facts, settings))
    if not found:
        return "no setting of memory makes it fit; take a smaller model, or shorter rows"
    told = [f"{remedy.setting} ({gib(remedy.memory.total)})" for remedy in found]
    if found[-1].memory.total <= limit < found[0].memory.total:
        return f"it fits with all of these: {', '.join(told)}"
    return f"it fits with {' or '.join(told)}"


def _is_allowed(tree: Node, facts: Facts, settings: tuple[str, ...]) -> bool:
    """Whether the spec with these settings has no error: of the rules about settings, as the rows stay what they are."""
    changed = complete(with_settings(tree, tuple(setting.replace(": ", "=", 1) for setting in settings)))
    of_settings = {module.__name__ for module in OF_SETTINGS}
    rules = (rule for rule in RULES if rule.__module__ in of_settings)
    return not any(fault.severity == "error" for rule in rules for fault in rule(changed, facts))
