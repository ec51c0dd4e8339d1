"""specgen lock: writes what a model is made from beside its spec, renews a part of it, or holds it against what is there."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from specgen.compiler import compile_spec, compile_tree
from specgen.diagnostics import Diagnostic, SpecError, in_file_order
from specgen.extend import load
from specgen.facts.figures import data_key
from specgen.facts.gather import Facts
from specgen.lock.contents import Lock, Part
from specgen.lock.drift import drifts
from specgen.lock.file import read, write
from specgen.lock.paths import lock_beside, lock_path
from specgen.lock.take import take, take_data, take_libraries, take_model, take_template, take_tower
from specgen.lock.use import LockInUse, held, lock_command, missing, pinned
from specgen.measured_data import measured_data
from specgen.plan import HubBase
from specgen.source import Node


def lock(spec: Path, profile: str | None, settings: tuple[str, ...]) -> Path:
    """Writes the whole lock. Figures that are there are kept: they say themselves what they belong to. Raises SpecError."""
    taken = take(*_tree_and_facts(spec, profile, settings))
    path = lock_path(spec, profile)
    old = _readable(path)
    write(replace(taken, figures=old.figures if old else None), path)
    return path


def update(spec: Path, profile: str | None, settings: tuple[str, ...], parts: tuple[Part, ...]) -> tuple[Path, list[Part]]:
    """Renews parts of a lock; returns the parts left alone that differ from what is there. Raises SpecError.

    Of a base model on the hub, tokenizer and its own chat template are renewed with it: all three are one commit.
    """
    tree, facts = _tree_and_facts(spec, profile, settings)
    path = lock_path(spec, profile)
    old = read(path)
    if old is None:
        raise missing(path, lock_command(spec, profile))
    renewed = _renewed(old, tree, facts, set(parts))
    write(renewed, path)
    return path, list(drifts(renewed, tree, facts, weights=True))


def _renewed(old: Lock, tree: Node, facts: Facts, parts: set[Part]) -> Lock:
    """A lock with some parts as they are now. The hub is asked only for those that come from there."""
    new = replace(old, name=tree.text("name"))
    if parts & {"base", "tokenizer", "template"}:
        model = take_model(tree, facts if "base" in parts else pinned(tree, facts, old))
        template = take_template(facts, model.chat_template)
        if "base" in parts and isinstance(facts.base, HubBase):
            parts.add("tokenizer")
            if template.name == "tokenizer":
                parts.add("template")
        new = replace(
            new,
            base=model.base if "base" in parts else old.base,
            tokenizer=model.tokenizer if "tokenizer" in parts else old.tokenizer,
            template=template if "template" in parts else old.template,
            tower=take_tower(tree, facts) if "base" in parts else old.tower,
        )
    if "data" in parts:
        data, validation, asked = take_data(tree, facts)
        new = replace(new, data=data, validation=validation, eval=asked)
    return replace(new, libraries=take_libraries()) if "libraries" in parts else new


def measure(spec: Path, profile: str | None, settings: tuple[str, ...]) -> None:
    """Adds the data's figures to the lock that is there. Raises SpecError, also for what the data stage finds wrong."""
    path = lock_path(spec, profile)
    compiled = compile_spec(spec, profile, settings)
    figures = measured_data(compiled)
    old = read(path)
    assert old is not None, path
    write(replace(old, figures={"key": data_key(compiled.plan), **asdict(figures)}), path)


def check(spec: Path, profile: str | None, settings: tuple[str, ...]) -> tuple[Path, list[Diagnostic]]:
    """What is not as it was locked. Asks nobody: a commit on the hub does not change. Raises SpecError."""
    tree, facts = _tree_and_facts(spec, profile, settings)
    path, owner = lock_beside(spec, profile)
    found = read(path)
    command = lock_command(spec, owner)
    if found is None:
        raise missing(path, command)
    use = LockInUse(lock=found, path=path, command=command, mode="locked")
    return path, in_file_order(held(tree, facts, use))


def _tree_and_facts(spec: Path, profile: str | None, settings: tuple[str, ...]) -> tuple[Node, Facts]:
    """Of a spec that compiles: what is wrong with it is told before anything is locked."""
    compiled = compile_tree(load(spec), profile, settings)
    return compiled.tree, compiled.facts


def _readable(path: Path) -> Lock | None:
    """The lock that is there; one that cannot be used is made again from scratch."""
    try:
        return read(path)
    except SpecError:
        return None
