"""The pipeline: load → validate → complete → check → resolve → render. Each step is a function of its own module."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from specgen.compose import with_profile, with_settings, without_effect
from specgen.defaults import complete
from specgen.diagnostics import Diagnostic, SpecError, in_file_order
from specgen.extend import load
from specgen.facts.figures import DataFigures
from specgen.facts.gather import Facts, gather
from specgen.partial import apart_from, sound_part
from specgen.plan import Plan
from specgen.presets import with_preset
from specgen.reading import is_there
from specgen.resolve import resolve
from specgen.rules import check
from specgen.rules.memory import everything_fits
from specgen.source import Node
from specgen.validate import validate

if TYPE_CHECKING:
    from specgen.lock.use import LockInUse, Mode
    from specgen.render import Files


@dataclass(frozen=True, kw_only=True)  # no slots: `files` is kept once it is made
class Compiled:
    """A plan, what it was made from, and what the user should know (warnings and notes)."""

    plan: Plan
    tree: Node
    facts: Facts
    diagnostics: tuple[Diagnostic, ...]

    @cached_property
    def files(self) -> Files:
        """The files that say the plan. Rendering finds no fault of the user's, so only who wants them pays for them."""
        from specgen.render import render

        return render(self.plan, self.facts)


def checked(tree: Node, profile: str | None = None, settings: tuple[str, ...] = ()) -> Node:
    """The composed and complete tree. Raises SpecError with every fault of the spec and of all its profiles."""
    faults = validate(tree)
    profiles, name = tree.at("profiles"), tree.at("name")
    for profile_name, overlay in (profiles.children if profiles else {}).items():
        if isinstance(overlay.value, dict):
            faults += without_effect(overlay, "in a profile")
            told = {fault.place for fault in faults} | {name.place if name else None}  # a profile only adds to the name
            faults += [fault for fault in validate(with_profile(tree, profile_name)) if fault.place not in told]
    if faults:
        raise SpecError(*in_file_order([*faults, *_other_faults(tree, faults)]))
    composed = with_settings(with_profile(tree, profile), settings)
    faults = validate(composed) if composed is not tree else []
    if faults:
        raise SpecError(*in_file_order([*faults, *_other_faults(composed, faults)]))
    return complete(with_preset(composed))


def _other_faults(tree: Node, faults: list[Diagnostic]) -> list[Diagnostic]:
    """What the checks find in those sections of a spec that fit the schema."""
    sound = sound_part(tree)
    if sound is None:
        return []
    completed = complete(with_preset(sound))
    facts, found = gather(completed)
    return apart_from(faults, [*found, *check(completed, facts)], tree)


def compile_tree(
    tree: Node,
    profile: str | None = None,
    settings: tuple[str, ...] = (),
    *,
    figures: DataFigures | None = None,
    lock: LockInUse | None = None,
) -> Compiled:
    """A parsed spec as plan and files. `figures` are those of its data, where they are known. Raises SpecError."""
    completed = checked(tree, profile, settings)
    facts, faults = gather(completed)
    found = replace(facts, figures=figures)
    if lock is not None:
        found = _pinned(completed, found, lock)
    diagnostics = in_file_order([*faults, *check(completed, found)])
    _stop_at_errors(diagnostics)
    if lock is not None:
        diagnostics = in_file_order([*diagnostics, *_held(completed, facts, lock)])
        _stop_at_errors(diagnostics)
    plan = resolve(completed, found)
    if figures is None and lock is not None and (locked := _locked_figures(plan, lock)):
        found = replace(found, figures=locked)
        diagnostics = in_file_order([*diagnostics, *check(completed, found)])
        _stop_at_errors(diagnostics)
        plan = resolve(completed, found)
    diagnostics = in_file_order([*diagnostics, *everything_fits(completed, plan, found)])
    _stop_at_errors(diagnostics)
    return Compiled(plan=plan, tree=completed, facts=found, diagnostics=tuple(diagnostics))


def compile_spec(
    path: Path,
    profile: str | None = None,
    settings: tuple[str, ...] = (),
    *,
    figures: DataFigures | None = None,
    mode: Mode = "look",
) -> Compiled:
    """A spec file as plan and files, with the lock that stands beside it. Raises SpecError."""
    tree = load(path)
    is_known = profile is None or tree.at("profiles", profile) is not None  # of another one compile_tree tells, not its lock
    lock, faults = _lock(path, profile, mode) if is_known else (None, [])
    compiled = compile_tree(tree, profile, settings, figures=figures, lock=lock)
    return replace(compiled, diagnostics=(*faults, *compiled.diagnostics))


def _stop_at_errors(diagnostics: list[Diagnostic]) -> None:
    if any(diagnostic.severity == "error" for diagnostic in diagnostics):
        raise SpecError(*diagnostics)


def _lock(path: Path, profile: str | None, mode: Mode) -> tuple[LockInUse | None, list[Diagnostic]]:
    from specgen.lock.paths import lock_beside

    if mode != "locked" and not is_there(lock_beside(path, profile)[0]):
        return None, []
    from specgen.lock.use import lock_in_use

    return lock_in_use(path, profile, mode)


def _pinned(tree: Node, facts: Facts, lock: LockInUse) -> Facts:
    from specgen.lock.use import pinned

    return pinned(tree, facts, lock.lock)


def _locked_figures(plan: Plan, lock: LockInUse) -> DataFigures | None:
    from specgen.lock.use import locked_figures

    return locked_figures(plan, lock.lock)


def _held(tree: Node, facts: Facts, lock: LockInUse) -> list[Diagnostic]:
    from specgen.lock.use import held

    return list(held(tree, facts, lock))
