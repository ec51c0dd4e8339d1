"""Rules about sweeps: parameters that are keys, values that fit them, trials that compile and can be compared."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace

from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts
from specgen.source import Node
from specgen.sweep.check import trial_faults, value_faults
from specgen.sweep.space import Parameter, Sweep, kinds_of, sweep_of
from specgen.sweep.trials import NOT_OF_A_TRIAL, listed, written

MANY_TRIALS = 100
MOST_TRIALS = 1000
MOST_CHECKED = 32  # trials that validate compiles; specgen sweep compiles all of them before it runs one
NOT_SWEPT = (*NOT_OF_A_TRIAL, "specgen", "name", "description")
# what decides which tokens a loss is a mean over, or how it is computed
OF_THE_LOSS = ("data", "template", "model.base", "train.objective", "train.label_smoothing_factor")


def a_sweep_is_no_run(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """What other commands make of a spec with a sweep."""
    sweep = sweep_of(tree)
    if sweep is None or not _is_sound(tree, facts) or sweep.trials > MOST_TRIALS:
        return
    checked = f"; the first {MOST_CHECKED} have been checked" if sweep.trials > MOST_CHECKED else ""
    message = f"the spec has a sweep of {_count(sweep.trials)}{checked}"
    hint = "specgen sweep runs them; every other command takes the spec without"
    yield Diagnostic(code="SG660", severity="note", message=message, place=sweep.place, hint=hint)


def parameters_are_settings(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A parameter is the path of a key of the spec, as --set takes it, and one that may differ between trials."""
    for parameter in _parameters(tree):
        if not _is_setting(parameter.path):
            message = f"{parameter.path} cannot be a parameter of a sweep"
            yield Diagnostic(code="SG651", message=message, place=parameter.key, hint="for example train.learning_rate: [1.0e-4, 2.0e-4]")
            continue
        set_by = tree.at(*parameter.path.split("."))
        if set_by is not None and set_by.place and set_by.place.is_flag:
            message = f"{parameter.path} is a parameter of the sweep, and set on the command line: {set_by.place}"
            yield Diagnostic(
                code="SG659", message=message, place=parameter.key, hint="leave --set out, or take the parameter out of the sweep"
            )


def parameters_are_apart(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """No parameter is a part of another."""
    for outer, inner in itertools.permutations(_parameters(tree), 2):
        if inner.path.startswith(f"{outer.path}."):
            message = f"{inner.path} is a part of {outer.path}, which is a parameter, too"
            related = ((outer.key, f"{outer.path} is here"),) if outer.key else ()
            yield Diagnostic(code="SG655", message=message, place=inner.key, related=related, hint="list whole sections, or their keys")


def ranges_are_ranges(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A range is of numbers, from low to high, of a method that draws."""
    sweep = sweep_of(tree)
    for parameter in _parameters(tree):
        if problem := _problem_of_range(parameter, sweep):
            message, hint = problem
            yield Diagnostic(code="SG656", message=message, place=parameter.place, hint=hint)


def _problem_of_range(parameter: Parameter, sweep: Sweep | None) -> tuple[str, str] | None:
    """What is wrong with a parameter's range, and what to write instead."""
    found, path = parameter.range, parameter.path
    if found is None or sweep is None:
        return None
    low, high = (written(node) for node in parameter.values)
    if not _has_numbers(path):
        return f"{path} takes no numbers, so it has no range", f"list the values, such as {path}: [...]"
    if found.low >= found.high:
        return f"the range of {path} goes from {low} to {high}: nothing lies between", "write low below high"
    if sweep.method == "grid" and found.count is None:
        hint = f"list some: {path}: [{low}, {high}], write a step, or take method: {{random: {{trials: 10}}}}"
        return f"a grid takes every value of {path}, and between {low} and {high} there is no end of them", hint
    if sweep.method == "grid" and found.log:
        hint = "leave log out, or take method: {random: {trials: 10}}"
        return f"{path} has log, and a grid takes every value: nothing is drawn on a scale", hint
    if found.log and found.low <= 0:
        return f"a logarithmic scale has no {low}", "write a low above 0, or log: false"
    if found.log and found.step:
        return f"{path} has both log and step: a logarithmic scale has no equal steps", "keep one of the two"
    return None


def values_fit(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Every value is checked as --set checks it, and told where it stands."""
    for parameter in _parameters(tree):
        if _is_setting(parameter.path) and (parameter.range is None or _has_numbers(parameter.path)):
            ends = [replace(value, key=parameter.key) for value in parameter.values]
            yield from value_faults(tree, parameter.path, ends)


def values_differ(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A value that is listed twice makes the same trial twice."""
    for parameter in _parameters(tree):
        seen: dict[str, Node] = {}
        for value in parameter.values if parameter.range is None else ():
            first = seen.setdefault(_same(value), value)
            if first is not value:
                related = ((first.place, "the first is here"),) if first.place else ()
                message = f"{parameter.path} has {written(value)} twice"
                yield Diagnostic(code="SG654", message=message, place=value.place, related=related, hint="keep one of the two")


def trials_are_few(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Each trial is a whole run."""
    sweep = sweep_of(tree)
    if sweep is None or not _is_sound(tree, facts):
        return
    if sweep.trials > MOST_TRIALS:
        message = f"the grid has {_sizes(sweep)} trials; at most {MOST_TRIALS:,} are allowed"
        yield Diagnostic(code="SG652", message=message, place=sweep.place, hint="method: {random: {trials: 50}} draws some of them")
    elif sweep.trials > MANY_TRIALS:
        message = f"the sweep has {_count(sweep.trials)}, and each is a whole run"
        hint = "specgen sweep --plan adds up their steps; --trials N runs the first N"
        yield Diagnostic(code="SG653", severity="warning", message=message, place=sweep.place, hint=hint)
    elif sweep.asked is not None and sweep.trials < sweep.asked:
        message = f"{sweep.method} asks for {_count(sweep.asked)}, and there are only {_sizes(sweep)} different ones"
        yield Diagnostic(
            code="SG661", severity="warning", message=message, place=sweep.place, hint="method: {grid: {}} runs each of them once"
        )


def the_metric_is_measured(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """The best trial is chosen by something that the trials have."""
    sweep = sweep_of(tree)
    if sweep is None:
        return
    needed = {"validation_loss": "data.validation", "smoke": "smoke"}.get(sweep.metric)
    if needed is None or any(_reaches(parameter.path, needed) for parameter in sweep.parameters):
        return
    found = tree.at(*needed.split("."))
    if found is not None and found.value:
        return
    place = tree.children["sweep"].children["metric"].place or sweep.place
    if sweep.metric == "smoke":
        message, hint = "sweep.metric is smoke, and the spec asks no question in smoke", "write smoke, or metric: validation_loss"
    else:
        message = "sweep.metric is validation_loss, and the spec holds no rows out"
        hint = "write data.validation: {fraction: 0.1}, or metric: train_loss"
    yield Diagnostic(code="SG657", message=message, place=place, hint=hint)


def _reaches(path: str, key: str) -> bool:
    """Whether another value at this path may make a key another: it is the key, in it, or around it."""
    return f"{path}.".startswith(f"{key}.") or f"{key}.".startswith(f"{path}.")


def losses_can_be_compared(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A loss is a mean over tokens: over other tokens it is another measure."""
    sweep = sweep_of(tree)
    if sweep is None or sweep.metric == "smoke":
        return
    for parameter in sweep.parameters:
        if f"{parameter.path}.".startswith(tuple(f"{path}." for path in _of_the_loss(tree, sweep))):
            message = f"{sweep.metric} is not the same measure in trials of another {parameter.path}: the lowest need not be the best"
            yield Diagnostic(code="SG658", severity="warning", message=message, place=parameter.key, hint="write metric: smoke")


def _of_the_loss(tree: Node, sweep: Sweep) -> tuple[str, ...]:
    """Keys that make losses differ for other reasons than the model: where rows are held out, the seed says which."""
    drawn = sweep.metric == "validation_loss" and not tree.at("data", "validation", "sources")
    return (*OF_THE_LOSS, "train.seed") if drawn else OF_THE_LOSS


def trials_compile(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """The first trials are compiled; what is wrong with their values together is told once. Optuna may choose others."""
    sweep = sweep_of(tree)
    if sweep is None or not _is_sound(tree, facts) or sweep.trials > MOST_TRIALS:
        return
    for fault in trial_faults(tree, facts, itertools.islice(listed(sweep), MOST_CHECKED)):
        placed = fault if fault.place else replace(fault, place=sweep.place)
        yield replace(placed, severity="warning") if sweep.method == "optuna" else placed


def _is_sound(tree: Node, facts: Facts) -> bool:
    """Whether trials can be made: every parameter is a key, with values that fit."""
    rules = (parameters_are_settings, parameters_are_apart, ranges_are_ranges, values_fit, values_differ)
    return not any(fault for rule in rules for fault in rule(tree, facts))


def _parameters(tree: Node) -> tuple[Parameter, ...]:
    sweep = sweep_of(tree)
    return sweep.parameters if sweep else ()


def _has_numbers(path: str) -> bool:
    """Whether a key takes numbers, as far as it is known."""
    kinds = kinds_of(path)
    return not kinds or bool({"integer", "number"} & set(kinds))


def _is_setting(path: str) -> bool:
    return all(path.split(".")) and path.partition(".")[0] not in NOT_SWEPT and not path.startswith("x-")


def _sizes(sweep: Sweep) -> str:
    """`4 x 3 = 12`; of a single parameter its number of values."""
    counts = [str(parameter.count) for parameter in sweep.parameters]
    return f"{' x '.join(counts)} = {sweep.combinations:,}" if len(counts) > 1 else counts[0]


def _same(value: Node) -> str:
    """A value as text that is the same for 8 and 8.0."""
    number = value.value
    plain = int(number) if isinstance(number, float) and number.is_integer() else value.plain()
    return json.dumps(plain, sort_keys=True)


def _count(trials: int) -> str:
    return "1 trial" if trials == 1 else f"{trials:,} trials"
