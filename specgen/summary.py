"""The figures of plan.md that are not in the plan itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from specgen.facts.gather import Facts
from specgen.facts.model import ModelFacts
from specgen.facts.template import TRAINED, conversation, mark_trained, plain_text
from specgen.plan import HubBase, LoraAdapter, PackageBase, Plan
from specgen.rules.adapter import matched
from specgen.sizes import size

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
    targets = plan.adapter.targets if plan.adapter else ()
    return {
        "base": _base(plan, facts),
        "distinct": len(facts.counts),
        "data": facts.figures,
        "figures": _figures(plan, facts),
        "targets": targets if isinstance(targets, str) else ", ".join(targets),
        "quantized": plan.model.quantization.TAG if plan.model.quantization else None,
        "sample": sample,
        "fence": "`" * (max((len(run) for run in (sample or "").replace("\n", " ").split(" ") if set(run) == {"`"}), default=2) + 1),
    }


def _base(plan: Plan, facts: Facts) -> str:
    """The base model, and for one on the hub where its sizes are known from."""
    base = plan.model.base
    if isinstance(base, HubBase):
        known = f"sizes from {_ORIGINS[facts.model.origin]}" if facts.model else "sizes unknown"
        return f"{base.repo} at {base.revision or 'main'}, from the hub; {known}"
    return f"package {base.package}, {base.path}" if isinstance(base, PackageBase) else base.path


_ORIGINS = {
    "header": "its files",
    "config.json": "its config.json",
    "hub cache": "the hub's cache on this machine",
    "lock": "the lock file",
    "published": "its published config.json",
}


def _figures(plan: Plan, facts: Facts) -> Figures | None:
    if facts.model is None or not facts.model.parameters:
        return None
    base = facts.model.parameters
    modules = adapted_modules(plan.adapter, facts.model)
    trainable = trainable_parameters(plan.adapter, facts.model)
    return Figures(
        modules=len(modules),
        trainable=trainable,
        total=base + trainable if plan.adapter else base,
        weights=size(base * BYTES[plan.model.dtype]),
        adapter_size=size(trainable * BYTES[plan.export.adapter.dtype]),
        merged_size=size(base * BYTES[plan.export.merged.dtype]),
    )


def adapted_modules(adapter: LoraAdapter | None, model: ModelFacts) -> set[str]:
    """The dotted names of the modules that get a LoRA update."""
    if adapter is None:
        return set()
    if isinstance(adapter.targets, str):
        return set(model.linear)
    return {module for target in adapter.targets for module in matched(target, model.linear)}


def trainable_parameters(adapter: LoraAdapter | None, model: ModelFacts) -> int:
    """Parameters that get a gradient, without those of modules_to_save."""
    if adapter is None:
        return model.parameters
    shapes = [model.linear[module] for module in adapted_modules(adapter, model)]
    lengths = sum(shape[1] for shape in shapes) if adapter.use_dora else 0  # DoRA: one length for each output
    return adapter.r * sum(sum(shape) for shape in shapes) + lengths


def _sample(plan: Plan, facts: Facts) -> str | None:
    """The first row as text, with marks around what is trained; None where the template is not known."""
    if not facts.counts:
        return None
    row, template = next(iter(facts.counts)), facts.template_text
    if plan.train.objective == "text":
        return TRAINED[0] + plain_text(row) + TRAINED[1]
    return None if template is None else mark_trained(template, conversation(row, plan.data.system))
