"""The memory plan by the runtime's own training step, on tensors without values, in a process of its own."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from specgen.diagnostics import SpecError
from specgen.facts.figures import DataFigures
from specgen.facts.model import ModelFacts
from specgen.launch import run_quietly
from specgen.memory import zero
from specgen.memory.plan import PARTS, MemoryPlan, disk_needed
from specgen.memory.state import optimizer_state, state_of
from specgen.optimizers import OPTIMIZERS
from specgen.plan import HubBase, Plan
from specgen.runtime_faults import told_faults


def measured(build: Path, plan: Plan, facts: ModelFacts | None, figures: DataFigures | None) -> MemoryPlan:
    """The memory plan of a compiled folder. Raises SpecError with what the runtime finds wrong."""
    longest = plan.data.max_length if figures is None or plan.data.packing else min(figures.longest, plan.data.max_length)
    share = 1.0 if figures is None else figures.trained_share
    found = _run(plan, facts, [str(build), "--row-tokens", str(longest), "--trained-share", repr(share)])
    return MemoryPlan(
        **_parts(plan, facts, found),
        disk=disk_needed(plan, facts) if facts else None,
        row_tokens=longest,
        trained_share=share,
    )


def _run(plan: Plan, facts: ModelFacts | None, arguments: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        if isinstance(plan.model.base, HubBase) and facts is not None:  # nothing is downloaded for its sizes
            own = Path(scratch, "config.json")
            own.write_text(json.dumps(_as_transformers_has_it(facts.config)), encoding="utf-8")
            arguments = [*arguments, "--model-config", str(own)]
        done = run_quietly("runtime.measure", arguments)
    if done.code:
        raise SpecError(*told_faults(done.errors))
    found: dict[str, Any] = json.loads(done.output.splitlines()[-1])
    return found


def _as_transformers_has_it(config: Mapping[str, Any]) -> dict[str, Any]:
    """config.json of a model type that transformers knows: InternLM2 is a Llama under other names (facts/architectures.py)."""
    if config.get("model_type") != "internlm2":
        return dict(config)
    left_out = ("auto_map", "rope_scaling", "model_type")
    kept = {key: value for key, value in config.items() if key not in left_out}
    return {**kept, "model_type": "llama", "attention_bias": bool(config.get("bias", False))}


def _parts(plan: Plan, facts: ModelFacts | None, found: Mapping[str, Any]) -> dict[str, int]:
    """What was found for one device, shared out as ZeRO does."""
    parts = {name: found["parts"].get(name, 0) for name in PARTS}
    trained, weights = found["trained"], parts["weights"]
    # the runtime's step leaves out optimizers of other libraries, and all under ZeRO
    optimizer = parts["optimizer"] or _state(plan, facts, found)
    if plan.distributed.zero_stage == 0:
        held = zero.whole(plan, weights=weights, trained=trained, optimizer=optimizer)
        return {**parts, "optimizer": optimizer, "buffers": parts["buffers"] + held.buffers, "on_cpu": 0}
    held = zero.shared_out(plan, weights=weights, parameters=found["parameters"], trained=trained, optimizer=optimizer)
    stays = {"weights": held.weights, "adapter": held.adapter, "optimizer": held.optimizer, "on_cpu": held.moved}
    accumulated = held.gradients if plan.train.gradient_accumulation_steps > 1 else 0
    during = {**parts, **stays, "gradients": accumulated, "buffers": parts["buffers"] + held.buffers}
    after = {**stays, "gradients": held.gradients, "activations": 0, "logits": 0, "buffers": held.buffers}
    return max(during, after, key=lambda moment: sum(moment[name] for name in PARTS))


def _state(plan: Plan, facts: ModelFacts | None, found: Mapping[str, Any]) -> int:
    if facts is not None and OPTIMIZERS[plan.train.optimizer].projects:
        return optimizer_state(plan, facts)
    return state_of(plan.train.optimizer, count=found["trained"], sides=found["sides"])
