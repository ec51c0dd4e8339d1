"""Rules about batches, steps, intervals and rates."""

from __future__ import annotations

import math
from collections.abc import Iterator

from specgen.diagnostics import Diagnostic, Place
from specgen.facts.gather import Facts
from specgen.optimizers import OPTIMIZERS
from specgen.rules.matrix import trains_projector_alone
from specgen.schedule import divides, schedule, world_size
from specgen.source import Node
from specgen.validate import place_of

MOST_PREVIEWS = 500


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
        yield Diagnostic(
            code="SG251",
            message=f"train.{first} and train.{second} say the same in two ways",
            place=other.key,
            related=((one.key or one.place, f"train.{first} is set here"),),
            hint="keep one of the two",
        )


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
        related=tuple(_written(tree, "train.micro_batch_size", "distributed.processes_per_node", "distributed.nodes")),
        hint=f"write batch_size: {options}",
    )


def _written(tree: Node, *keys: str) -> Iterator[tuple[Place, str]]:
    """Where these settings stand, as far as they are written."""
    for key in keys:
        node = tree.at(*key.split("."))
        if node is not None and node.place:
            yield node.place, f"{key} is set here"


def _length(tree: Node) -> Iterator[tuple[Place, str]]:
    """Where the length of training stands, if it is written."""
    max_steps = tree.children["train"].children["max_steps"].value
    yield from _written(tree, "train.epochs" if max_steps is None else "train.max_steps")


def warmup_ends_before_training(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A warm-up as long as the run never reaches the learning rate."""
    if not divides(tree):
        return
    plan = schedule(tree, facts.examples)
    if plan.warmup_steps is None or not plan.total_steps:
        return
    if plan.warmup_steps >= plan.total_steps:
        steps, ratio = (tree.children["train"].children[key] for key in ("warmup_steps", "warmup_ratio"))
        key = "warmup_steps" if steps.value is not None else "warmup_ratio"
        reached = tree.real("train", "learning_rate") * (plan.total_steps - 1) / plan.warmup_steps
        message = (
            f"the warm-up takes {plan.warmup_steps} steps and training only {plan.total_steps}: "
            f"the rate would end at {reached:.3g}, below learning_rate"
        )
        yield Diagnostic(
            code="SG253",
            message=message,
            place=place_of(tree, "train", key),
            related=tuple(_length(tree)),
            hint=f"write warmup_steps: {plan.total_steps // 10}" + (" instead of warmup_ratio" if ratio.place else ""),
        )


def intervals_fit_into_the_run(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A preview interval beyond the end shows nothing on the way."""
    every = tree.at("train", "preview", "every")
    if every is None or every.place is None or not divides(tree):
        return
    total = schedule(tree, facts.examples).total_steps
    if total and isinstance(every.value, int) and every.value > total:
        message = f"a preview every {every.value} steps, but training has {total}: only the first and the last are shown"
        yield Diagnostic(code="SG254", severity="warning", message=message, place=every.place, related=tuple(_length(tree)))


def a_batch_has_rows_enough(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A batch larger than the data set makes one small step of each epoch."""
    node = tree.children["train"].children["batch_size"]
    batch_size = tree.number("train", "batch_size")
    if node.place and divides(tree) and facts.examples and batch_size > facts.examples:
        yield Diagnostic(
            code="SG255",
            severity="warning",
            message=f"train.batch_size is {batch_size}, and the training examples are {facts.examples}: an epoch is one partial step",
            place=node.place,
            hint="lower batch_size, or give more data",
        )


def checkpoints_fall_into_the_run(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A save interval beyond the end leaves nothing that an interrupted run could go on from."""
    save_steps = tree.children["train"].children["save_steps"]
    if save_steps.place is None or not divides(tree):
        return
    total = schedule(tree, facts.examples).total_steps
    if total and isinstance(save_steps.value, int) and save_steps.value > total:
        yield Diagnostic(
            code="SG256",
            severity="warning",
            message=f"a checkpoint every {save_steps.value} steps, but training has {total}: an interrupted run begins anew",
            place=save_steps.place,
            related=tuple(_length(tree)),
            hint=f"write save_steps: {max(1, total // 3)}",
        )


# Published recipes take 1e-4 to 1e-3 for LoRA; for all weights 1e-6 to 1e-4, and up to 1e-3 for models of 0.1 to 0.4 billion; LLaVA's
# projector is trained at 1e-3
USUAL_RATES = {"an adapter": (5e-6, 5e-3), "all weights": (1e-7, 2e-3), "the projector": (1e-5, 1e-2)}
RECIPES = {"an adapter": "2e-4", "all weights": "1e-5", "the projector": "1e-3"}


def learning_rate_is_usual(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Full fine-tuning with an adapter's rate forgets everything; an adapter with a full run's rate learns nothing."""
    rate = tree.real("train", "learning_rate")
    trained = "all weights" if tree.children["adapter"].value is None else "an adapter"
    trained = "the projector" if trains_projector_alone(tree) else trained
    least, most = USUAL_RATES[trained]
    is_default = not tree.children["train"].children["learning_rate"].place
    is_usual = least <= rate <= most and not (is_default and trained == "all weights")
    if is_usual or not OPTIMIZERS[tree.text("train", "optimizer")].is_adam_like:
        return
    how = "the default, for adapters, and high" if is_default else f"unusually {'high' if rate > most else 'low'}"
    yield Diagnostic(
        code="SG257",
        severity="warning",
        message=f"train.learning_rate {rate:g} is {how} for training {trained}",
        place=place_of(tree, "adapter") if is_default else place_of(tree, "train", "learning_rate"),
        hint=f"recipes take about {RECIPES[trained]}",
    )


def warmup_is_no_large_part(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A ratio above a third was meant as a percentage, or as steps."""
    ratio = tree.children["train"].children["warmup_ratio"]
    if ratio.place and isinstance(ratio.value, float) and 1 / 3 < ratio.value < 1:
        yield Diagnostic(
            code="SG259",
            severity="warning",
            message=f"the warm-up takes {ratio.value:.0%} of training",
            place=ratio.place,
            hint="recipes take 0.03 to 0.1; warmup_steps counts steps",
        )


def previews_leave_time_to_train(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Each preview generates answers: at every step of a long run they take more time than training."""
    preview = tree.children["train"].children["preview"]
    if not preview.children or not divides(tree):
        return
    total = schedule(tree, facts.examples).total_steps
    answers = len(preview.children["prompts"].items)
    if total and (shown := total // preview.number("every") * answers) > MOST_PREVIEWS:
        yield Diagnostic(
            code="SG260",
            severity="warning",
            message=f"the run would show {shown:,} sample answers of up to {preview.number('max_new_tokens')} tokens",
            place=place_of(tree, "train", "preview", "every"),
            hint=f"write every: {math.ceil(total / 20)}",
        )
