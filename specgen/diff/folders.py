"""Specs that are compiled already. What differs is told by the keys of config.yaml, which has what follows from them, too."""

from __future__ import annotations

from pathlib import Path

from specgen.diagnostics import Diagnostic, SpecError
from specgen.diff.compare import Difference, Setting, leaves, said
from specgen.diff.stages import run_again
from specgen.lock.typed import build
from specgen.plan import Plan
from specgen.source import Node, parse
from specgen.validate import dotted


def config_of(folder: Path) -> Node:
    """What a compiled folder says. Raises SpecError."""
    file = folder / "config.yaml"
    try:
        return parse(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(Diagnostic(code="SG401", message=f"{folder} is no compiled folder: {error}")) from None


def compare_configs(before: Node, after: Node) -> Difference:
    """What changes from one config.yaml to another. Raises SpecError where one is of another version."""
    plans = (_plan(before), _plan(after))
    old, new = dict(leaves(before)), dict(leaves(after))
    said_before, said_after = ({path: said(node) for path, node in side.items()} for side in (old, new))
    changed = [path for path in {**old, **new} if said_before.get(path) != said_after.get(path)]
    settings = tuple(Setting(key=dotted(path), before=said_before.get(path), after=said_after.get(path), follows=()) for path in changed)
    return Difference(settings=settings, rest=(), notes=(), again=tuple(run_again(*plans)))


def _plan(config: Node) -> Plan:
    try:
        plan = build(Plan, config.plain(), "")
    except (TypeError, ValueError) as error:
        hint = "compile the spec again with this version of specgen; the file is not for editing"
        message = f"the compiled folder does not fit this version: {error}"
        raise SpecError(Diagnostic(code="SG402", message=message, place=config.place, hint=hint)) from None
    assert isinstance(plan, Plan)
    return plan
