"""The figures of plan.md that are not in the plan itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from specgen.facts.gather import Facts
from specgen.facts.marking import TRAINED, marked, marking_of, plain_text
from specgen.memory import MemoryPlan, memory_plan
from specgen.plan import HubBase, PackageBase, Plan
from specgen.rules.tokens import proven_stop
from specgen.sizes import BYTES, gib, merging_bytes, size
from specgen.sources import source_lines
from specgen.trainable import exported_parameters, ranks_of, trainable_parameters

MOST_SAMPLES = 4
LONGEST_SAMPLE = 2000  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Parameters are counts; sizes are texts with a unit."""

    modules: int
    trainable: int
    total: int
    weights: str
    adapter_size: str
    merged_size: str
    merging: str


def summarise(plan: Plan, facts: Facts, measured: MemoryPlan | None = None) -> dict[str, Any]:
    """What the template of plan.md needs beside the plan; its memory is worked out where it has not been measured."""
    rendered = samples(plan, facts)
    targets = plan.adapter.targets if plan.adapter else ()
    return {
        "base": _base(plan, facts),
        "sees": _sees(plan),
        "images": sum(
            count * images
            for source in facts.sources
            if source.table and source.counts
            for images, count in zip(source.table.images, source.counts, strict=True)
        ),
        "stop": proven_stop(facts) if plan.train.objective == "chat" else None,
        "distinct": facts.survey.distinct,
        "data": facts.figures,
        "total_tokens": total_tokens(plan, facts),
        "arithmetic": arithmetic(plan, facts),
        "figures": _figures(plan, facts),
        "memory": measured or memory_plan(plan, facts.model, facts.figures),
        "is_measured": measured is not None,
        "targets": targets if isinstance(targets, str) else ", ".join(targets),
        "quantized": plan.model.quantization.TAG if plan.model.quantization else None,
        "sources": source_lines(plan.data.sources + (plan.data.validation.sources if plan.data.validation else ())),
        "bad_rows": sum(file.bad_rows for source in plan.data.sources for file in getattr(source, "files", ())),
        "samples": rendered,
        "fence": _fence(rendered),
    }


def _base(plan: Plan, facts: Facts) -> str:
    """The base model, and for one on the hub where its sizes are known from."""
    base = plan.model.base
    if isinstance(base, HubBase):
        known = f"sizes from {_ORIGINS[facts.model.origin]}" if facts.model else "sizes unknown"
        return f"{base.repo} at {base.revision or 'main'}, from the hub; {known}"
    return f"package {base.package}, {base.path}" if isinstance(base, PackageBase) else base.path


def _sees(plan: Plan) -> str | None:
    """The vision tower, and what an image is to the language model."""
    vision = plan.model.vision
    if vision is None:
        return None
    tower = vision.tower
    named = f"{tower.repo} at {tower.revision or 'main'}" if isinstance(tower, HubBase) else tower.path
    tokens = "an unknown number of" if vision.image_tokens is None else f"{vision.image_tokens:,}"
    how = "padded to a square" if vision.pad_to_square else "cropped to a square"
    return f"{named}, layer {vision.select_layer}, {vision.projector}; an image is {tokens} tokens, {how}"


_ORIGINS = {
    "header": "its files",
    "config.json": "its config.json",
    "hub cache": "the hub's cache on this machine",
    "lock": "the lock file",
    "published": "its published config.json",
}


def _figures(plan: Plan, facts: Facts) -> Figures | None:
    if facts.model is None or not facts.model.parameters or not facts.model.sizes_known:
        return None
    base = facts.model.parameters
    modules = ranks_of(plan.adapter, facts.model) if plan.adapter else {}
    trainable = trainable_parameters(plan, facts.model)
    return Figures(
        modules=len(modules),
        trainable=trainable,
        total=base + trainable if plan.adapter else base,
        weights=size(base * BYTES[plan.model.dtype]),
        adapter_size=size(exported_parameters(plan, facts.model) * BYTES[plan.export.adapter.dtype]),
        merged_size=size(base * BYTES[plan.export.merged.dtype]),
        merging=_merging(plan, base),
    )


def _merging(plan: Plan, parameters: int) -> str:
    """What the stage merge needs of memory, where it finds that: the whole model is compared in float32."""
    needed, limit = merging_bytes(parameters), plan.hardware.device_memory
    on = {"cpu": "on the CPU", "cuda": "on the GPU", "auto": "on a GPU that has it free, else on the CPU"}[plan.export.merged.device]
    if plan.export.merged.device == "auto" and limit is not None and needed > limit:
        on = "on the CPU: a device has less"
    return f"{gib(needed)}, the model in float32, {on}"


def total_tokens(plan: Plan, facts: Facts) -> int | None:
    """Tokens over the whole training, padding not counted; None where steps or lengths are not known."""
    train = plan.train
    if facts.figures is None or not train.total_steps or not train.steps_per_epoch:
        return None
    return round(facts.figures.tokens * train.total_steps / train.steps_per_epoch)


def arithmetic(plan: Plan, facts: Facts) -> str | None:
    """Floating-point operations of the whole training, as text.

    2 a parameter and token forward and 4 backward (Kaplan et al. 2020, section 2.1); frozen weights need no gradient of
    their own, which saves 2; gradient checkpointing goes forward twice.
    """
    tokens = total_tokens(plan, facts)
    if tokens is None or facts.model is None or not facts.model.parameters:
        return None
    factor = (6 if plan.adapter is None else 4) + (2 if plan.train.gradient_checkpointing else 0)
    operations = factor * facts.model.parameters * tokens
    unit, divisor = next(
        (unit, 10**power)
        for unit, power in (("EFLOP", 18), ("PFLOP", 15), ("TFLOP", 12), ("GFLOP", 9))
        if operations >= 10**power or power == 9
    )
    return f"{operations / divisor:.3g} {unit}"


def samples(plan: Plan, facts: Facts) -> list[str]:
    """The first row of each source as the model sees it, with marks around what is trained; none where that is not known."""
    template = facts.template_text
    rows = [source.texts[0] for source in facts.sources if source.texts]
    if plan.train.objective == "text":
        texts = [TRAINED[0] + plain_text(row) + TRAINED[1] for row in rows]
    else:
        texts = [] if template is None else [marked(template, row, marking_of(plan.data)) for row in rows]
    return [_shortened(text) for text in texts[:MOST_SAMPLES]]


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_SAMPLE else f"{text[:LONGEST_SAMPLE]}… and {len(text) - LONGEST_SAMPLE:,} characters more"


def _fence(texts: list[str]) -> str:
    """A code fence that no text can end."""
    runs = re.findall("`+", "\n".join(texts))
    return "`" * max(3, 1 + max(map(len, runs), default=0))
