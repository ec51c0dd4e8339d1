"""specgen plan: what a run will be, with the figures that only the tokenizer can tell."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from specgen import folder
from specgen.compiler import Compiled, compile_spec
from specgen.diagnostics import Diagnostic, SpecError
from specgen.measured_data import NOT_TO_BE_HAD, measured_data
from specgen.memory import MemoryPlan, memory_plan
from specgen.plan import to_plain
from specgen.render import render
from specgen.rules.memory import memory_fits
from specgen.summary import total_tokens

NOT_KNOWN = "SG282"  # what training needs of a device's memory: it is, once it is measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A compiled spec with what could be found out about its data and, where that was asked for, its memory."""

    compiled: Compiled
    measured: MemoryPlan | None
    diagnostics: tuple[Diagnostic, ...]

    @property
    def text(self) -> str:
        """plan.md."""
        return render(self.compiled.plan, self.compiled.facts, self.measured)["plan.md"]


def planned(spec: Path, profile: str | None, settings: tuple[str, ...], *, measure: bool) -> Planned:
    """The plan of a spec. Raises SpecError, also for what the data stage finds wrong with the rows, and for a step that is
    measured and does not fit. What is on a hub that cannot be reached stays unknown, with a warning, and so do
    tokens where PyTorch is not installed."""
    compiled = compile_spec(spec, profile, settings)
    unknown: list[Diagnostic] = []
    try:
        compiled = compile_spec(spec, profile, settings, figures=measured_data(compiled))
    except SpecError as error:
        if not {fault.code for fault in error.diagnostics} <= NOT_TO_BE_HAD:
            raise
        unknown = [replace(fault, severity="warning") for fault in error.diagnostics]
    found = _measured_step(compiled) if measure else None
    gate = list(memory_fits(compiled.tree, compiled.plan, compiled.facts, found)) if found else []
    if gate:
        raise SpecError(*gate)
    told = [fault for fault in compiled.diagnostics if found is None or fault.code != NOT_KNOWN]
    return Planned(compiled=compiled, measured=found, diagnostics=(*unknown, *told))


def _measured_step(compiled: Compiled) -> MemoryPlan:
    from specgen.memory.measured import measured

    with tempfile.TemporaryDirectory() as scratch:
        build = Path(scratch, "build")
        folder.write(compiled.files, build)
        return measured(build, compiled.plan, compiled.facts.model, compiled.facts.figures)


def as_data(found: Planned) -> dict[str, object]:
    """The plan for other programs: all settings as config.yaml has them, and the figures of the data and the memory."""
    compiled = found.compiled
    figures = compiled.facts.figures
    memory = found.measured or memory_plan(compiled.plan, compiled.facts.model, figures)
    return {
        "memory": None if memory is None else asdict(memory) | {"together": memory.total, "measured": found.measured is not None},
        "plan": to_plain(compiled.plan),
        "data": None if figures is None else asdict(figures),
        "parameters": compiled.facts.model.parameters if compiled.facts.model else None,
        "total_tokens": total_tokens(compiled.plan, compiled.facts),
    }
