"""The memory plan by the runtime's own training step, on tensors without values, in a process of its own."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from specgen.diagnostics import SpecError, told_by_runtime
from specgen.facts.figures import DataFigures
from specgen.facts.model import ModelFacts
from specgen.launch import run_quietly
from specgen.memory import zero
from specgen.memory.plan import PARTS, MemoryPlan, disk_needed
from specgen.plan import HubBase, Plan


def measured(build: Path, plan: Plan, facts: ModelFacts | None, figures: DataFigures | None) -> MemoryPlan:
    """Runs the training step of a compiled folder. Raises SpecError with what the runtime says is wrong."""
    longest = plan.data.max_length if figures is None or plan.data.packing else min(figures.longest, plan.data.max_length)
    share = 1.0 if figures is None else figures.trained_share
    arguments = [str(build), "--row-tokens", str(longest), "--trained-share", repr(share)]
    with tempfile.TemporaryDirectory() as scratch:
        if isinstance(plan.model.base, HubBase) and facts is not None:  # no download for its sizes
            own = Path(scratch, "config.json")
            own.write_text(json.dumps(facts.config), encoding="utf-8")
            arguments += ["--model-config", str(own)]
        done = run_quietly("runtime.measure", arguments)
    if done.code:
        raise SpecError(*told_by_runtime(done.errors))
    found = json.loads(done.output.splitlines()[-1])
    parts = _shared_out(plan, found) if plan.distributed.zero_stage else _with_buckets(plan, found)
    disk = disk_needed(plan, facts) if facts else None
    return MemoryPlan(**parts, disk=disk, row_tokens=longest, trained_share=share)


def _with_buckets(plan: Plan, found: Mapping[str, Any]) -> dict[str, int]:
    ...
