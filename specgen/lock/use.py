"""How a compilation uses the lock beside the spec: it pins what is on the hub, and is held against what is there now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from specgen.calls import call
from specgen.diagnostics import Diagnostic, Severity, SpecError
from specgen.facts.figures import DataFigures, data_key, figures_of
from specgen.facts.gather import Facts, SourceFacts, VisionFacts, mixed, source_lists
from specgen.facts.model import ModelFacts, facts_from_config
from specgen.facts.tower import seeing, tower_in_config
from specgen.lock.contents import Lock, LockedHubData, LockedSource, Part
from specgen.lock.drift import drifts
from specgen.lock.file import read, section
from specgen.lock.paths import lock_beside
from specgen.lock.take import asked_hub_data
from specgen.plan import HubBase, Plan
from specgen.source import Node

# look: validate, compile and plan, which read no weights and go on; locked: compile --locked; run; unlocked: run --unlocked
Mode = Literal["look", "locked", "run", "unlocked"]

MOST_CHANGES = 5
WHAT: dict[Part, tuple[str, str]] = {
    "base": ("SG292", "the base model is not the locked one"),
    "tokenizer": ("SG293", "the tokenizer is not the locked one"),
    "template": ("SG294", "the chat template is not the locked one"),
    "data": ("SG295", "the data are not the locked ones"),
    "libraries": ("SG296", "libraries are not the locked ones"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LockInUse:
    """A lock file that was read; `command` is the call of `specgen lock` that makes it again."""

    lock: Lock
    path: Path
    command: str
    mode: Mode


def lock_in_use(spec: Path, profile: str | None, mode: Mode) -> tuple[LockInUse | None, list[Diagnostic]]:
    """The lock beside a spec, or a profile's own; None where there is none. Under `unlocked` one that cannot be used is a warning.

    Raises SpecError where one is needed or cannot be used.
    """
    path, owner = lock_beside(spec, profile)
    command = lock_command(spec, owner)
    try:
        lock = read(path)
    except SpecError as error:
        if mode != "unlocked":
            raise
        return None, [replace(fault, severity="warning") for fault in error.diagnostics]
    if lock is None:
        if mode == "locked":
            raise missing(path, command)
        return None, []
    return LockInUse(lock=lock, path=path, command=command, mode=mode), []


def lock_command(spec: Path, profile: str | None) -> str:
    """The call that makes the lock of a spec."""
    return call("lock", spec, profile=profile)


def missing(path: Path, command: str) -> SpecError:
    """The fault of a lock file that is not there."""
    return SpecError(Diagnostic(code="SG290", message=f"there is no lock file {path}", hint=f"make it: {command}"))


def pinned(tree: Node, facts: Facts, lock: Lock) -> Facts:
    """The facts with commits, model facts and rows of what the lock has of the hub, where it is what the spec asks for."""
    facts = _with_tower(tree, facts, lock)
    if isinstance(facts.base, HubBase) and tree.text("model", "base") == lock.base.source:
        base = replace(facts.base, revision=lock.base.revision)
        locked_model = _model(lock)
        if locked_model is not None and facts.vision is not None:
            locked_model = seeing(locked_model, facts.vision.tower)
        facts = replace(facts, base=base, model=locked_model or facts.model)
    sources = tuple(map(_pinned_sources, source_lists(tree), facts.source_lists, lock.source_lists))
    if sources == facts.source_lists:
        return facts
    own, validation, asked = sources
    return mixed(tree, replace(facts, sources=own, validation_sources=validation, eval_sources=asked))


def _with_tower(tree: Node, facts: Facts, lock: Lock) -> Facts:
    """The facts with the locked commit and sizes of a vision tower on the hub."""
    vision, node, layer = facts.vision, tree.at("model", "vision", "tower"), tree.at("model", "vision", "select_layer")
    if vision is None or node is None or layer is None or lock.tower is None or not isinstance(vision.base, HubBase):
        return facts
    if str(node.value) != lock.tower.source or not isinstance(layer.value, int):
        return facts
    tower = tower_in_config(lock.tower.config, select_layer=layer.value, origin="lock")
    pinned_tower = VisionFacts(base=replace(vision.base, revision=lock.tower.revision), tower=tower)
    return replace(facts, vision=pinned_tower, model=None if facts.model is None else seeing(facts.model, tower))


def _model(lock: Lock) -> ModelFacts | None:
    facts = facts_from_config(lock.base.config, origin="lock")
    if facts is None or lock.template.name != "tokenizer":
        return facts
    return replace(facts, chat_template=lock.template.jinja, template_known=True)


def _pinned_sources(nodes: list[Node], found: tuple[SourceFacts, ...], locked: tuple[LockedSource, ...]) -> tuple[SourceFacts, ...]:
    return tuple(map(_pinned_source, nodes, found, locked)) if len(nodes) == len(locked) else found


def _pinned_source(node: Node, found: SourceFacts, locked: object) -> SourceFacts:
    if "hub" not in node.children or not isinstance(locked, LockedHubData):
        return found
    if asked_hub_data(node) != replace(locked, revision="", rows=None):
        return found
    return replace(found, revision=locked.revision, own_rows=locked.rows)


def locked_figures(plan: Plan, lock: Lock) -> DataFigures | None:
    """The data's figures that the lock holds, where they are of this very data, template, tokenizer and length."""
    figures = lock.figures
    if figures is None or figures.get("key") != data_key(plan):
        return None
    return figures_of(figures)


def held(tree: Node, facts: Facts, use: LockInUse) -> Iterator[Diagnostic]:
    """One diagnostic for each part that is not as it was locked. Raises SpecError where a file of the base model cannot be read."""
    found = drifts(use.lock, tree, facts, weights=use.mode != "look")
    for part, changes in found.items():
        if part == "libraries" and use.mode == "look":
            continue
        code, what = WHAT[part]
        more = f", and {len(changes) - MOST_CHANGES} more" if len(changes) > MOST_CHANGES else ""
        yield Diagnostic(
            code=code,
            severity=_severity(part, use.mode),
            message=f"{what}: {', '.join(changes[:MOST_CHANGES])}{more}",
            place=section(use.path, part),
            hint=f"if that is meant: {use.command} --update {part}",
        )


def _severity(part: Part, mode: Mode) -> Severity:
    return "error" if mode == "locked" or (mode == "run" and part != "libraries") else "warning"
