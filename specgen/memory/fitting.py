"""What would make a plan fit: each setting is changed, the memory worked out again, and what fits is told with its size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from specgen.facts.figures import DataFigures
from specgen.facts.model import ModelFacts
from specgen.memory.plan import MemoryPlan, memory_plan
from specgen.plan import Dtype, Nf4Quantization, Plan
from specgen.schema import default_of
from specgen.trainable import adapter_in

SHORTEST = 128  # tokens: rows are not advised to be shorter


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """A changed setting as one writes it, and the memory that is needed with it."""

    setting: str
    plan: Plan
    memory: MemoryPlan


Allowed = Callable[[tuple[str, ...]], bool]


def remedies(
    plan: Plan, facts: ModelFacts, figures: DataFigures | None, limit: int, *, allowed: Allowed = lambda _settings: True
) -> list[Remedy]:
    """Single settings that bring the memory under a limit, of each kind the mildest. Where none does alone, all that help
    together, in the order in which they were added; empty where even those do not. `allowed` says of settings together
    whether the spec may have them."""
    now = memory_plan(plan, facts, figures)
    assert now is not None, "what is unknown cannot be too much"
    found = []
    for kind in KINDS:
        tried = (_tried(setting, changed, facts, figures) for setting, changed in kind(plan, figures))
        fitting = next((remedy for remedy in tried if remedy.memory.total <= limit and allowed((remedy.setting,))), None)
        found += [fitting] if fitting else []
    return found or _together(plan, facts, figures, limit, now, allowed)


def _together(plan: Plan, facts: ModelFacts, figures: DataFigures | None, limit: int, now: MemoryPlan, allowed: Allowed) -> list[Remedy]:
    """Every kind's strongest setting that helps, until it fits."""
    found: list[Remedy] = []
    for kind in KINDS:
        tried = [_tried(setting, changed, facts, figures) for setting, changed in kind(plan, figures)]
        before, helping = [remedy.setting for remedy in found], [remedy for remedy in tried if remedy.memory.total < now.total]
        strongest = sorted(helping, key=lambda remedy: remedy.memory.total)
        best = next((remedy for remedy in strongest if allowed((*before, remedy.setting))), None)
        if best is None:
            continue
        found.append(best)
        plan, now = best.plan, best.memory
        if now.total <= limit:
            return found
    return []


def _tried(setting: str, plan: Plan, facts: ModelFacts, figures: DataFigures | None) -> Remedy:
    memory = memory_plan(plan, facts, figures)
    assert memory is not None
    return Remedy(setting=setting, plan=plan, memory=memory)


Candidates = Iterator[tuple[str, Plan]]


def _checkpointing(plan: Plan, figures: DataFigures | None) -> Candidates:
    if not plan.train.gradient_checkpointing:
        yield "train.gradient_checkpointing: true", replace(plan, train=replace(plan.train, gradient_checkpointing=True))


def _micro_batch(plan: Plan, figures: DataFigures | None) -> Candidates:
    train, micro = plan.train, plan.train.micro_batch_size
    while micro > 1:
        micro //= 2
        accumulation, rest = divmod(train.batch_size, micro * plan.distributed.world_size)
        if not rest:
            smaller = replace(train, micro_batch_size=micro, gradient_accumulation_steps=accumulation)
            yield f"train.micro_batch_size: {micro}", replace(plan, train=smaller)


def _four_bits(plan: Plan, figures: DataFigures | None) -> Candidates:
    if adapter_in(plan) is None or plan.model.quantization is not None or plan.distributed.zero_stage == 3:
        return
    nf4 = Nf4Quantization(double_quant=True, compute_dtype=plan.model.dtype, skip_modules=("lm_head",))
    is_default = plan.model.dtype == default_of("model.quantization.nf4.compute_dtype")
    own = "" if is_default else f"compute_dtype: {plan.model.dtype}"
    yield f"model.quantization: {{nf4: {{{own}}}}}", replace(plan, model=replace(plan.model, quantization=nf4))


def _sixteen_bits(plan: Plan, figures: DataFigures | None) -> Candidates:
    capability = plan.hardware.compute_capability
    dtype: Dtype = "float16" if capability is not None and capability < 8 else "bfloat16"
    if plan.model.dtype == "float32":
        yield f"model.dtype: {dtype}", replace(plan, model=replace(plan.model, dtype=dtype))


def _shorter_rows(plan: Plan, figures: DataFigures | None) -> Candidates:
    """Shorter packs, as long as every row still fits into one. Rows that are not packed are as long as they are."""
    length = plan.data.max_length // 2
    while length >= max(SHORTEST, figures.longest if figures else plan.data.max_length) and plan.data.packing:
        yield f"data.max_length: {length}", replace(plan, data=replace(plan.data, max_length=length))
        length //= 2


def _sharing(plan: Plan, figures: DataFigures | None) -> Candidates:
    distributed = plan.distributed
    most = 3 if plan.model.quantization is None else 2
    if distributed.world_size > 1:
        for stage in range(distributed.zero_stage + 1, most + 1):
            yield f"distributed.zero_stage: {stage}", replace(plan, distributed=replace(distributed, zero_stage=stage))


def _moving(plan: Plan, figures: DataFigures | None) -> Candidates:
    """What ZeRO manages can move to the CPU."""
    distributed = plan.distributed
    if distributed.zero_stage == 0 or plan.hardware.device == "cpu" or "bit" in plan.train.optimizer:
        return
    if distributed.offload == "none":
        yield "distributed.offload: optimizer", replace(plan, distributed=replace(distributed, offload="optimizer"))
    if distributed.offload != "all" and distributed.zero_stage == 3:
        yield "distributed.offload: all", replace(plan, distributed=replace(distributed, offload="all"))


def _small_state(plan: Plan, figures: DataFigures | None) -> Candidates:
    is_large = plan.train.optimizer in ("adamw_torch", "adamw_torch_fused", "paged_adamw_32bit")
    if is_large and plan.hardware.device != "cpu" and plan.distributed.offload == "none":
        yield "train.optimizer: adamw_bnb_8bit", replace(plan, train=replace(plan.train, optimizer="adamw_bnb_8bit"))


KINDS = (_checkpointing, _micro_batch, _four_bits, _sixteen_bits, _shorter_rows, _sharing, _moving, _small_state)
