"""Rules about the schedule of the learning rate."""

from __future__ import annotations

from collections.abc import Iterator

from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts
from specgen.lr_schedules import SCHEDULES, warms_up
from specgen.rules.settings import unlike
from specgen.schedule import divides, schedule
from specgen.source import Node
from specgen.validate import place_of

AT_MOST_RATE = ("lr_end", "min_lr")
PLATEAU_LEAST = 1.0


def schedule_settings_are_known(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Each schedule takes its own settings; some need one."""
    name = tree.text("train", "schedule")
    given = tree.children["train"].children["lr_scheduler_kwargs"]
    yield from unlike(given, SCHEDULES[name].takes, code="SG611", path="train.lr_scheduler_kwargs", reader=f"the schedule {name}")
    for group in SCHEDULES[name].needs:
        present = [key for key in group if key in given.children]
        if len(present) != 1:
            problem = f"takes {' or '.join(group)}, and not both" if present else f"needs {' or '.join(group)}"
            place = given.children[present[1]].key if present else place_of(tree, "train", "schedule")
            hint = "keep one of the two" if present else f"write lr_scheduler_kwargs: {{{group[-1]}: {_example(tree, group[-1])}}}"
            yield Diagnostic(code="SG611", message=f"the schedule {name} {problem}", place=place, hint=hint)


def _example(tree: Node, setting: str) -> str:
    if setting != "num_decay_steps":
        return "0.1"
    total = schedule(tree, None).total_steps if divides(tree) else None
    return str(max(1, (total or 100) // 10))


def schedule_settings_are_in_range(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Rates below the highest, and phases that fill the run."""
    given, rate = tree.children["train"].children["lr_scheduler_kwargs"].children, tree.real("train", "learning_rate")
    for key in AT_MOST_RATE:
        node = given.get(key)
        if node is not None and _number(node) is not None and (_number(node) or 0) >= rate:
            message = f"lr_scheduler_kwargs.{key} is {_number(node):g}, not below train.learning_rate, {rate:g}"
            yield Diagnostic(code="SG615", message=message, place=node.place, hint=f"write {key}: {rate / 10:g}")
    factor = given.get("factor")
    if factor is not None and _number(factor) is not None and not 0 < (_number(factor) or 0) < PLATEAU_LEAST:
        message = f"lr_scheduler_kwargs.factor is {_number(factor):g}: the rate is multiplied by it, and has to fall"
        yield Diagnostic(code="SG615", message=message, place=factor.place, hint="write factor: 0.5")
    yield from _phases(tree, facts)


def _phases(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Warm-up, plateau and decay together are the run: what is left over would be trained at the lowest rate."""
    given = tree.children["train"].children["lr_scheduler_kwargs"].children
    if tree.text("train", "schedule") != "warmup_stable_decay" or "num_decay_steps" not in given or not divides(tree):
        return
    steps = schedule(tree, facts.examples)
    decay, stable = (_number(given[key]) if key in given else None for key in ("num_decay_steps", "num_stable_steps"))
    if steps.total_steps is None or steps.warmup_steps is None or decay is None:
        return
    together = steps.warmup_steps + decay + (stable or 0)
    if together > steps.total_steps or (stable is not None and together < steps.total_steps):
        parts = f"{steps.warmup_steps} of warm-up, " + (f"{stable:g} at the full rate, " if stable is not None else "")
        message = f"the schedule's phases are {parts}{decay:g} of decay, and training has {steps.total_steps} steps"
        hint = "leave num_stable_steps out: it is what the others leave" if stable is not None else "lower num_decay_steps"
        yield Diagnostic(code="SG615", message=message, place=given["num_decay_steps"].place, hint=hint)


def the_warmup_is_read(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A warm-up that is asked for, and that the schedule does not have."""
    name = tree.text("train", "schedule")
    for key in ("warmup_ratio", "warmup_steps"):
        node = tree.children["train"].children[key]
        if node.place and node.value and not warms_up(tree):
            chosen = tree.children["train"].children["schedule"].place
            yield Diagnostic(
                code="SG612",
                message=f"train.{key} is given, and the schedule {name} has no warm-up",
                place=node.key or node.place,
                related=((chosen, "train.schedule is set here"),) if chosen else (),
                hint=f"write schedule: constant_with_warmup, or leave {key} out",
            )


def a_plateau_needs_a_validation_loss(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """The validation loss tells when to lower the rate; and DeepSpeed steps a schedule without telling it one."""
    if tree.text("train", "schedule") != "reduce_lr_on_plateau":
        return
    place = place_of(tree, "train", "schedule")
    if not tree.children["data"].children["validation"].children:
        message = "the schedule reduce_lr_on_plateau follows the validation loss, and data.validation holds out no rows"
        yield Diagnostic(code="SG613", message=message, place=place, hint="write data.validation: {fraction: 0.1}")
    if tree.number("distributed", "zero_stage"):
        message = "the schedule reduce_lr_on_plateau follows the validation loss, which DeepSpeed does not hand on to a schedule"
        yield Diagnostic(code="SG613", message=message, place=place, hint="write schedule: cosine, or zero_stage: 0")


def schedule_free_is_left_to_itself(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Schedule-free optimizers average the weights instead of letting the rate fall."""
    optimizer, name = tree.text("train", "optimizer"), tree.text("train", "schedule")
    if optimizer.startswith("schedule_free") and name != "constant":
        yield Diagnostic(
            code="SG617",
            severity="warning",
            message=f"the optimizer {optimizer} takes the place of a schedule, and the schedule {name} changes its rate beside it",
            place=place_of(tree, "train", "schedule"),
            hint="write schedule: constant",
        )


def _number(node: Node) -> float | None:
    return float(node.value) if isinstance(node.value, int | float) and not isinstance(node.value, bool) else None
