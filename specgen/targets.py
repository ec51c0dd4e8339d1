"""What schedulers take beside launch.sh: an sbatch script, a TrainJob, a SkyPilot task. All of them start launch.sh on each node."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from specgen.diagnostics import Diagnostic, SpecError, printable
from specgen.folder import TARGETS, Target
from specgen.plan import Plan
from specgen.reading import is_there
from specgen.render import Files, render_text
from specgen.source import Node
from specgen.validate import place_of

if TYPE_CHECKING:
    from specgen.compiler import Compiled

LONGEST_JOB = 40  # characters: Kubeflow appends to the name, and Kubernetes allows 63


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The section `cluster` of a spec."""

    image: str | None
    volume: str | None


def files_for(compiled: Compiled, folder: Path, asked: tuple[Target, ...] = ()) -> tuple[Files, list[Diagnostic]]:
    """All files of a compiled folder: those of the plan, of the targets asked for, and of those that it was made for before; and what
    there is to say of the targets. Raises SpecError where a spec lacks something for one."""
    targets = tuple(dict.fromkeys((*targets_of(folder), *asked)))
    build = _from_here(folder)
    found = [*faults_of_targets(compiled.plan, compiled.tree, targets), *_out_of_reach(build, targets)]
    if any(fault.severity == "error" for fault in found):
        raise SpecError(*found)
    return compiled.files | target_files(compiled.plan, compiled.tree, targets, build), found


def targets_of(folder: Path) -> tuple[Target, ...]:
    """The targets that a compiled folder was made for: their files are made anew with the rest."""
    return tuple(target for target, name in TARGETS.items() if is_there(folder / name))


def _from_here(folder: Path) -> Path:
    """A folder as it is from the working folder, where it lies below it; another one as it is."""
    whole = Path(os.path.normpath(Path.cwd() / folder))
    return whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else whole


def target_files(plan: Plan, tree: Node, targets: tuple[Target, ...], build: Path) -> Files:
    """The files of targets that a spec has all for: file name → text. All of them start launch.sh in the folder `build`."""
    values = tree.children["cluster"].plain()
    assert isinstance(values, dict)
    known = {"cluster": Cluster(**values), "gpus": gpus(plan), "job": job_name(plan.name), "build": build.as_posix()}
    return {TARGETS[target]: render_text(TARGETS[target], plan=plan, **known) for target in targets}


def gpus(plan: Plan) -> int:
    """GPUs to ask for on each node: one a process, where the spec says that it is GPUs that train."""
    hardware = plan.hardware
    trains = hardware.device == "cuda" or (hardware.device == "auto" and hardware.devices is not None)
    return plan.distributed.processes_per_node if trains else 0


def job_name(name: str) -> str:
    """A spec's name as Kubernetes takes it: lower case, digits and hyphens, a letter first."""
    label = re.sub(r"[^a-z0-9]+", "-", name.lower())[:LONGEST_JOB].strip("-")
    return label if label[:1].isalpha() else f"run-{label}".strip("-")


def faults_of_targets(plan: Plan, tree: Node, targets: tuple[Target, ...]) -> Iterator[Diagnostic]:
    """What a spec lacks for its targets."""
    cluster = tree.children["cluster"]
    for target in targets:
        for key, why in _needs(target, plan):
            if cluster.children[key].value is None:
                message = f"{TARGETS[target]} needs cluster.{key}: {why}"
                example = "ghcr.io/example/specgen:1.0" if key == "image" else "specgen"
                hint = f"write cluster: {{{key}: …}}, or --set cluster.{key}={example}"
                yield Diagnostic(code="SG634", message=message, place=place_of(tree, "cluster"), hint=hint)
    if targets and plan.hardware.device == "auto" and plan.hardware.devices is None:
        message = "the job asks for no GPU: hardware.device is auto, and hardware.devices does not say how many a node has"
        hint = "write hardware: {device: cuda}, or device: cpu where none is meant"
        yield Diagnostic(code="SG635", severity="warning", message=message, place=place_of(tree, "hardware"), hint=hint)


def _out_of_reach(build: Path, targets: tuple[Target, ...]) -> Iterator[Diagnostic]:
    """A container has the working folder and nothing beside it; Slurm's nodes see the same files as this one. A line is a line."""
    for target in targets:
        path, why = printable(f"{build}/launch.sh"), None
        if not str(build).isprintable():
            why = "its name has characters that do not print"
        elif build.is_absolute() and target != "slurm":
            why = "a container has only the working folder"
        if why:
            message = f"{TARGETS[target]} starts {path}, and {why}"
            yield Diagnostic(code="SG634", message=message, hint="choose a folder below the working folder with --output")


def _needs(target: Target, plan: Plan) -> Iterator[tuple[str, str]]:
    if target == "slurm":
        return
    yield "image", "a container with specgen[train] in it"
    if target == "kubeflow":
        yield "volume", "the PersistentVolumeClaim with the working folder"
    elif plan.distributed.nodes > 1:
        yield "volume", "the storage for the runs, which all nodes share"
