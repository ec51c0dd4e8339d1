"""specgen check: for CI. Every spec is valid, and the compiled folders and locks that are committed are those of their specs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from specgen import folder
from specgen.calls import call
from specgen.compiler import Compiled, compile_spec
from specgen.diagnostics import Diagnostic, Place, SpecError
from specgen.extend import load
from specgen.lock.use import WHAT
from specgen.targets import files_for

DRIFTS = {code for code, _ in WHAT.values()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What was found in all specs, and how many compiled folders are as they should be."""

    faults: tuple[Diagnostic, ...]
    builds: int


def check(specs: tuple[Path, ...], builds: Path) -> Checked:
    """Checks specs, and those of their compiled folders below `builds` that are there, of each profile, too."""
    faults: list[Diagnostic] = []
    fresh = 0
    for spec in specs:
        for profile in (None, *_profiles(spec)):
            try:
                compiled = compile_spec(spec, profile)
            except SpecError as error:
                faults += error.diagnostics
                continue
            faults += [_weighed(fault) for fault in compiled.diagnostics if fault.severity != "note"]
            target = builds / compiled.plan.name
            if folder.is_compiled(target):
                stale = _stale(spec, profile, compiled, target)
                fresh += not stale
                faults += stale
    return Checked(faults=tuple(dict.fromkeys(faults)), builds=fresh)


def _weighed(fault: Diagnostic) -> Diagnostic:
    """A lock that has drifted is an error here: specgen run would refuse what is merged."""
    return replace(fault, severity="error") if fault.code in DRIFTS else fault


def _profiles(spec: Path) -> list[str]:
    try:
        profiles = load(spec).children.get("profiles")
    except SpecError:
        return []
    return list(profiles.children) if profiles else []


def _stale(spec: Path, profile: str | None, compiled: Compiled, target: Path) -> list[Diagnostic]:
    try:
        difference = folder.stale(files_for(compiled, target)[0], target)
    except SpecError as error:
        return list(error.diagnostics)
    files = [line.split("\t")[0].removeprefix("--- ") for line in difference.splitlines() if line.startswith("--- ")]
    if not files:
        return []
    names = ", ".join(Path(file).name for file in files)
    output = None if target == Path("build", compiled.plan.name) else target
    return [
        Diagnostic(
            code="SG303",
            message=f"{target} is not what this spec compiles to: {names} differ{'s' if len(files) == 1 else ''}",
            place=Place(file=str(spec), line=1, column=1),
            hint=f"run: {call('compile', spec, profile=profile, output=output)}, and commit the folder",
        )
    ]
