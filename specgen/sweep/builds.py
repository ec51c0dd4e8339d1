"""A trial as files: its own spec, its lock and its compiled folder. From there on it is a run like any other."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from specgen import folder
from specgen.compiler import Compiled, compile_spec, compile_tree
from specgen.compose import with_profile, with_settings
from specgen.diagnostics import Diagnostic, SpecError
from specgen.extend import load
from specgen.lock.contents import Lock
from specgen.lock.file import read, text_of, write
from specgen.lock.paths import lock_beside, lock_path
from specgen.lock.take import take
from specgen.plan import to_plain
from specgen.quoting import block, comment
from specgen.render import Files
from specgen.source import Node, parse
from specgen.sweep.space import Sweep, sweep_of
from specgen.sweep.trials import Trial, trial_name, trial_tree
from specgen.writing import write_whole

OF_THE_LOCK = ("model", "template", "data")
HUB_OUT_OF_REACH = {"SG297", "SG411"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """A spec with a sweep. `tree` is composed but not complete: what a person wrote. `lock` is the one beside it, if any."""

    spec: Path
    profile: str | None
    settings: tuple[str, ...]
    tree: Node
    compiled: Compiled
    sweep: Sweep
    lock: Lock | None

    @property
    def name(self) -> str:
        """The spec's name; its profile's is in it."""
        return self.compiled.plan.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A trial that is compiled. `key` is a hash of all that its result depends on, but for the versions of libraries."""

    trial: Trial
    name: str
    spec: Path
    build: Path
    compiled: Compiled
    key: str


def read_sweep(spec: Path, profile: str | None, settings: tuple[str, ...]) -> Swept:
    """A spec that has a sweep, compiled as specgen run compiles it. Raises SpecError."""
    compiled = compile_spec(spec, profile, settings, mode="run")
    tree = with_settings(with_profile(load(spec), profile), settings)
    sweep = sweep_of(compiled.tree)
    if sweep is None:
        hint = "add sweep: {parameters: {train.learning_rate: [1.0e-4, 2.0e-4]}}"
        raise SpecError(Diagnostic(code="SG662", message=f"{spec} has no sweep", place=tree.place, hint=hint))
    lock = read(lock_beside(spec, profile)[0])
    return Swept(spec=spec, profile=profile, settings=settings, tree=tree, compiled=compiled, sweep=sweep, lock=lock)


@dataclass(slots=True)
class Builder:
    """Compiles trials into a folder. A lock is taken once for all trials of one model, template and data."""

    swept: Swept
    target: Path
    taken: dict[str, Lock | None] = field(default_factory=dict)
    unlocked: list[Diagnostic] = field(default_factory=list)

    def build(self, trial: Trial) -> Built:
        """Writes spec, lock and compiled folder of a trial. Raises SpecError."""
        tree = trial_tree(self.swept.tree, trial)
        spec, build = self.target / f"{trial.label}.yaml", self.target / trial.label
        try:
            changed = _write_spec(tree, spec, comment(f"{trial.told}, a trial of {self.swept.spec}"))
        except OSError as error:
            raise SpecError(Diagnostic(code="SG302", message=f"{spec} cannot be written: {error.strerror}")) from None
        lock = self._locked(spec, tree, str(tree.children["name"].value), changed=changed)
        compiled = compile_spec(spec, mode="run")
        folder.write(compiled.files, build)
        name = trial_name(self.swept.name, trial)
        assert compiled.plan.name == name, (compiled.plan.name, name)
        return Built(trial=trial, name=name, spec=spec, build=build, compiled=compiled, key=_key(compiled.files, lock))

    def _locked(self, spec: Path, tree: Node, name: str, *, changed: bool) -> Lock | None:
        """The lock beside the trial's spec: that of the sweep's own spec where it is of the same parts; else the one that is there."""
        path = lock_path(spec, None)
        own = {key: node.plain() for key, node in self.swept.tree.children.items() if key in OF_THE_LOCK}
        asked = {key: node.plain() for key, node in tree.children.items() if key in OF_THE_LOCK}
        inherited = self.swept.lock if asked == own else None
        if inherited is None and not changed and path.exists():
            return read(path)
        seed = tree.at("train", "seed")
        lock = inherited or self._take(tree, json.dumps([asked, seed and seed.plain()]))
        if lock is None:
            path.unlink(missing_ok=True)
            return None
        named = replace(lock, name=name)
        if not path.exists() or path.read_text(encoding="utf-8") != text_of(named):
            write(named, path)
        return named

    def _take(self, tree: Node, what: str) -> Lock | None:
        """A lock of what is there now; None, with a warning once, where the hub that it names cannot be reached."""
        if what not in self.taken:
            compiled = compile_tree(tree)
            try:
                self.taken[what] = take(compiled.tree, compiled.facts)
            except SpecError as error:
                if not {fault.code for fault in error.diagnostics} <= HUB_OUT_OF_REACH:
                    raise
                self.taken[what] = None
                self.unlocked += [replace(fault, severity="warning") for fault in error.diagnostics]
        return self.taken[what]


def _write_spec(tree: Node, path: Path, head: str) -> bool:
    """Writes a spec that says the same as a tree; whether it is another one than was there."""
    text = f"# {head}.\n# Written by specgen sweep.\n{block(tree.plain(), 0)}\n"
    assert parse(text, str(path)).plain() == tree.plain(), path
    changed = not path.is_file() or path.read_text(encoding="utf-8") != text
    write_whole(path, text)
    return changed


def _key(files: Files, lock: Lock | None) -> str:
    made_from = [files["config.yaml"], files.get("deepspeed.json")]
    parts = () if lock is None else (lock.base, lock.tokenizer, lock.template, lock.data, *([lock.tower] if lock.tower else []))
    locked = None if lock is None else [to_plain(part) for part in parts]
    return hashlib.sha256(json.dumps([made_from, locked], sort_keys=True).encode()).hexdigest()
