"""Rules about batches, steps and intervals."""

from __future__ import annotations

from collections.abc import Iterator

from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts
from specgen.schedule import divides, schedule, world_size
from specgen.source import Node
from specgen.validate import place_of


def epochs_or_max_steps(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """One of the two says how long training is."""
    yield from _one_of(tree, "epochs", "max_steps")


def warmup_ratio_or_steps(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """One of the two says how long the warm-up is."""
    yield from _one_of(tree, "warmup_ratio", "warmup_steps")


def _one_of(tree: Node, first: str, second: str) -> Iterator[Diagnostic]:
    train = tree.children["train"].children
    one, other = train[first], train[second]
    if one.place and other.place and other.value is not None:
        message = f"train.{first} (line {one.place.line}) and train.{second} say the same in two ways"
        yield Diagnostic(code="SG251", message=message, place=other.key, hint="keep one of the two")


def batch_divides(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """batch_size is micro_batch_size x processes x accumulation, without a rest."""
    if divides(tree):
        return
    batch_size, processes = tree.number("train", "batch_size"), world_size(tree)
    micro = tree.children["train"].children["micro_batch_size"].value
    parts = (micro if isinstance(micro, int) else 1) * processes
    made_of = f"{micro} (micro_batch_size) x {processes} (processes)" if isinstance(micro, int) else f"{processes} processes"
    lower = batch_size // parts * parts
    options = f"{lower} or {lower + parts}" if lower else f"{parts}"
    yield Diagnostic(
        code="SG252",
        message=f"train.batch_size is {batch_size}, no multiple of {made_of}",
        place=place_of(tree, "train", "batch_size"),
        hint=f"write batch_size: {options}",
    )


def warmup_ends_before_training(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A warm-up as long as the run never reaches the learning rate."""
    if not divides(tree):
        return
    plan = schedule(tree, facts.examples)
    if plan.warmup_steps is None or not plan.total_steps:
        return
    if plan.warmup_steps >= plan.total_steps:
        steps = tree.children["train"].children["warmup_steps"]
        key = "warmup_steps" if steps.value is not None else "warmup_ratio"
        reached = tree.real("train", "learning_rate") * (plan.total_steps - 1) / plan.warmup_steps
        message = (
            f"the warm-up takes {plan.warmup_steps} steps and training only {plan.total_steps}: "
            f"the rate would end at {reached:.3g}, below learning_rate"
        )
        yield Diagnostic(
            code="SG253", message=message, place=place_of(tree, "train", key), hint=f"write warmup_steps: {plan.total_steps // 10}"
        )


def intervals_fit_into_the_run(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A preview interval beyond the end shows nothing on the way."""
    every = tree.at("train", "preview", "every")
    if every is None or every.place is None or not divides(tree):
        return
    total = schedule(tree, facts.examples).total_steps
    if total and isinstance(every.value, int) and every.value > total:
        message = f"a preview every {every.value} steps, but training has {total}: only the first and the last are shown"
        yield Diagnostic(code="SG254", severity="warning", message=message, place=every.place)
