"""Rules about model.from_run: the earlier run is there, and of this very model."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from specgen.diagnostics import Diagnostic, Place, printable
from specgen.facts.gather import Facts
from specgen.plan import to_plain
from specgen.runfolder import is_run, read_run, runs_below
from specgen.source import Node
from specgen.validate import place_of

RUNS = Path("runs")
SEEN = ("tower", "projector", "select_layer")  # of model.vision: what the earlier run's weights are of; images may be taken otherwise
MOST_SPECS = 200
NAME = re.compile(r"""^name:\s*['"]?(?P<name>[A-Za-z0-9._-]+)['"]?\s*(#.*)?$""", re.MULTILINE)


def the_earlier_run_is_of_this_model(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Weights are those of one base model and one tower; a run goes on from another one than itself."""
    node = tree.children["model"].children["from_run"]
    if not isinstance(node.value, str):
        return
    folder, shown = Path(node.value), printable(node.value)
    try:
        is_own = folder.resolve() == (RUNS / tree.text("name")).resolve()
        there, made_by_a_run = folder.exists(), is_run(folder)
    except (OSError, ValueError) as error:  # a name that is too long, or that holds a null byte
        reason = error.strerror if isinstance(error, OSError) else "its name holds a null byte"
        yield _told(node, f"model.from_run cannot be read: {reason}", "a run is in runs/NAME; specgen runs lists them")
        return
    if is_own:
        message = f"model.from_run is {shown}, the folder of this very run"
        yield _told(node, message, "name the folder of the run before, and give this one a name of its own")
    elif not there:
        message = f"{shown} is not there yet: that run comes first"
        yield replace(_told(node, message, _what_makes(folder, node, own=tree.text("name"))), severity="note")
    elif not made_by_a_run:
        yield _told(node, f"{shown} is no run folder", "a run is in runs/NAME; specgen runs lists them")
    else:
        yield from _compared(tree, facts, node, folder)


def _compared(tree: Node, facts: Facts, node: Node, folder: Path) -> Iterator[Diagnostic]:
    run, shown = read_run(folder), printable(str(node.value))
    model = run.config.get("model")
    if isinstance(model, dict):
        for key, here, there in _differences(model, facts, tree):
            message = f"the run in {shown} was made from model.{key} {printable(there)}, and this spec has {printable(here)}"
            related = place_of(tree, "model", *key.split("."))
            yield _told(node, message, f"write the model.{key} of that run, or name another run", related=related, key=key)
    if "merge" not in run.stages:
        message = f"the run in {shown} has no merged model yet ({run.state})"
        found = _told(node, message, f"specgen run {_specs_beside(node).get(folder.name, 'SPEC')} goes on with it")
        yield replace(found, severity="note")


def _differences(model: dict[str, Any], facts: Facts, tree: Node) -> Iterator[tuple[str, str, str]]:
    """What is another there: the key, what it is here, and what there."""
    base = to_plain(facts.base)
    if _is_another(base, model.get("base")):
        yield "base", _named(base), _named(model.get("base"))
    own = tree.children["model"].children["vision"].plain()
    before = model.get("vision")
    if not isinstance(own, dict) or not isinstance(before, dict) or facts.vision is None:
        if bool(own) != bool(before):
            yield "vision", "one" if own else "none", "one" if before else "none"
        return
    here: dict[str, Any] = {**own, "tower": to_plain(facts.vision.base)}
    for key in SEEN:
        if _is_another(here[key], before.get(key)):
            yield f"vision.{key}", _named(here[key]), _named(before.get(key))


def _is_another(here: object, there: object) -> bool:
    """Whether two bases differ. A revision that one of them leaves open is the other's."""
    if isinstance(here, dict) and isinstance(there, dict) and "hub" in here and "hub" in there:
        one, other = here["hub"], there["hub"]
        return bool(one["repo"] != other.get("repo") or (one["revision"] and other.get("revision") not in (None, one["revision"])))
    return here != there


def _named(base: object) -> str:
    """A base, or another value, as a spec says it."""
    if not isinstance(base, dict) or len(base) != 1:
        return str(base)
    kind, settings = next(iter(base.items()))
    if kind == "hub":
        return f"hf:{settings['repo']}" + (f"@{settings['revision']}" if settings.get("revision") else "")
    return f"package:{settings['package']}/{settings['path']}" if kind == "package" else str(settings["path"])


def _what_makes(folder: Path, node: Node, *, own: str) -> str:
    """The command that makes a run; where no spec beside this one has its name, the run that may be meant."""
    specs = _specs_beside(node)
    if folder.name not in specs:
        names = {*specs, *(run.name for run in runs_below(folder.parent, depth=1))} - {own}
        if near := difflib.get_close_matches(folder.name, sorted(names), n=1):
            return f"did you mean '{folder.parent / near[0]}'?"
    return f"specgen run {specs.get(folder.name, 'SPEC')} makes it"


def _specs_beside(node: Node) -> dict[str, str]:
    """The files of the specs in this one's folder, by the names of their runs."""
    if node.place is None:
        return {}
    folder = Path(node.place.file).parent
    specs: dict[str, str] = {}
    for file in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])[:MOST_SPECS]:
        try:
            found = NAME.search(file.read_text(encoding="utf-8")) if file.is_file() else None
        except (OSError, UnicodeDecodeError):
            continue
        if found:
            specs.setdefault(found["name"], str(file))
    return specs


def _told(node: Node, message: str, hint: str, *, related: Place | None = None, key: str = "") -> Diagnostic:
    return Diagnostic(
        code="SG648",
        message=message,
        place=node.place or node.key,
        related=((related, f"model.{key} is set here"),) if related else (),
        hint=hint,
    )
