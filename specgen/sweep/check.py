"""What would be wrong with the trials of a sweep, all at once, before one of them runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from specgen.defaults import complete
from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts, gather, reads_facts
from specgen.presets import with_preset
from specgen.resolve import resolve
from specgen.schema import lookup
from specgen.source import Node
from specgen.sweep.trials import Trial, trial_tree, with_values
from specgen.validate import validate


@dataclass(slots=True)
class _Told:
    fault: Diagnostic
    trials: list[Trial] = field(default_factory=list)


def trial_faults(tree: Node, facts: Facts, trials: Iterable[Trial]) -> list[Diagnostic]:
    """Errors and warnings that trials of a complete tree have and the spec itself has not, each once, with the values that have it."""
    own = {_identity(fault) for fault in _faults(replace(tree, value={**tree.children, "sweep": Node(value=None)}), facts)}
    told: dict[object, _Told] = {}
    count = 0
    for count, trial in enumerate(trials, start=1):  # noqa: B007  (how many there were)
        for fault in faults_of(tree, facts, trial):
            if fault.severity != "note" and _identity(fault) not in own:
                told.setdefault(_identity(fault), _Told(fault)).trials.append(trial)
    return [_with_trials(found, count) for found in told.values()]


def faults_of(tree: Node, facts: Facts, trial: Trial) -> Iterator[Diagnostic]:
    """What compiling one trial of a complete tree finds."""
    own = trial_tree(tree, trial)
    faults = validate(own)
    if faults:
        yield from faults
        return
    completed = complete(with_preset(_without_preset(tree, own)))
    if any(reads_facts(path.split(".")) for path in trial.values):
        facts, missing = gather(completed)
        yield from missing
    yield from _faults(completed, facts)


def _without_preset(tree: Node, own: Node) -> Node:
    """A trial with another preset than its sweep's, without what that one has brought, and without the defaults beside it.

    A preset is read before defaults are filled in, and the sweep's tree is complete already.
    """
    before, now = tree.at("distributed", "preset"), own.at("distributed", "preset")
    if before is None or now is None or before.value == now.value:
        return own
    section = own.children["distributed"]
    kept = {key: node for key, node in section.children.items() if key == "preset" or node.place not in (None, before.place)}
    return replace(own, value={**own.children, "distributed": replace(section, value=kept)})


def value_faults(tree: Node, path: str, values: Iterable[Node]) -> list[Diagnostic]:
    """What the schema says of values of one key, each on its own, in the words that it has for a whole spec."""
    import jsonschema

    schema = lookup(path)
    known = jsonschema.Draft7Validator(True if schema is None else schema)
    # the first one tells of the key itself
    doubtful = [value for index, value in enumerate(values) if index == 0 or not known.is_valid(value.plain())]
    return list(dict.fromkeys(fault for value in doubtful for fault in validate(with_values(tree, {path: value}))))


def _faults(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    from specgen.rules import check
    from specgen.rules.memory import everything_fits

    found = list(check(tree, facts))
    yield from found
    if not any(fault.severity == "error" for fault in found):
        yield from everything_fits(tree, resolve(tree, facts), facts)


def _identity(fault: Diagnostic) -> object:
    return fault.code, fault.severity, fault.message, fault.place, fault.hint


def _with_trials(found: _Told, count: int) -> Diagnostic:
    first, among = found.trials[0].told, len(found.trials)
    share = "every trial" if among == count else f"{among} of {count} trials"
    which = f"with {first}" if among == 1 else f"in {share}, the first with {first}"
    return replace(found.fault, message=f"{found.fault.message}; {which}")
