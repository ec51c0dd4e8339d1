"""The figures of plan.md that are not in the plan itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from specgen.facts.gather import Facts
from specgen.facts.template import conversation, mark_trained
from specgen.plan import HubBase, PackageBase, Plan
from specgen.rules.adapter import matched

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Parameters are counts; sizes are texts with a unit."""

    modules: int
    trainable: int
    total: int
    weights: str
    adapter_size: str
    merged_size: str


def summarise(plan: Plan, facts: Facts) -> dict[str, Any]:
    """What the template of plan.md needs beside the plan."""
    sample = _sample(plan, facts)
    base = plan.model.base
    targets = plan.adapter.targets
    return {
        "base": f"package {base.package}, {base.path}"
        if isinstance(base, PackageBase)
        else f"{base.repo} at {base.revision or 'main'}, from the hub"
        if isinstance(base, HubBase)
        else base.path,
        "distinct": len(facts.counts),
        "figures": _figures(plan, facts),
        "targets": targets if isinstance(targets, str) else ", ".join(targets),
        "quantized": plan.model.quantization.TAG if plan.model.quantization else None,
        "sample": sample,
        "fence": "`" * (max((len(run) for run in (sample or "").replace("\n", " ").split(" ") if set(run) == {"`"}), default=2) + 1),
    }


def _figures(plan: Plan, facts: Facts) -> Figures | None:
    if facts.model is None:
        return None
    linear = facts.model.linear
    targets = plan.adapter.targets
    modules = set(linear) if isinstance(targets, str) else {module for target in targets for module in matched(target, linear)}
    trainable = sum(plan.adapter.r * sum(linear[module]) for module in modules)
    base = facts.model.parameters
    return Figures(
        modules=len(modules),
        trainable=trainable,
        total=base + trainable,
        weights=size(base * BYTES[plan.model.dtype]),
        adapter_size=size(trainable * BYTES[plan.export.adapter.dtype]),
        merged_size=size(base * BYTES[plan.export.merged.dtype]),
    )


def size(number: int) -> str:
    """Bytes as people read them, in powers of ten."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number >= factor:
            return f"{number / factor:.1f} {unit}"
    return f"{number} B"


def _sample(plan: Plan, facts: Facts) -> str | None:
    """The first row as text, with marks around what is trained; None where the template is not known."""
    template = facts.template_text
    return None if template is None else mark_trained(template, conversation(next(iter(facts.counts)), plan.data.system))
