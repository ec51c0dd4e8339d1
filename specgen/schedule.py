"""The arithmetic of batches and optimizer steps, by which the plan counts and the run trains.

The same as transformers' Trainer (5.23) without drop_last: partial batches and partial accumulation groups both count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from specgen.lr_schedules import warms_up
from specgen.source import Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Steps are optimizer steps, None where the number of examples is not known; `epochs` is None when max_steps rules."""

    micro_batch_size: int
    accumulation: int
    epochs: float | None
    steps_per_epoch: int | None
    total_steps: int | None
    warmup_steps: int | None


def world_size(tree: Node) -> int:
    """Training processes, over all nodes."""
    return tree.number("distributed", "nodes") * tree.number("distributed", "processes_per_node")


def divides(tree: Node) -> bool:
    """Whether the batch can be shared out evenly over devices and micro batches."""
    return tree.number("train", "batch_size") % (world_size(tree) * (_optional(tree, "micro_batch_size") or 1)) == 0


def updates_per_epoch(examples: int, micro_batch_size: int, accumulation: int, processes: int) -> int:
    """Optimizer steps in one pass over the examples."""
    micro_batches = math.ceil(math.ceil(examples / micro_batch_size) / processes)
    return math.ceil(micro_batches / accumulation)


def schedule(tree: Node, examples: int | None) -> Schedule:
    """The schedule of a complete tree whose batch divides, for so many training examples."""
    processes = world_size(tree)
    batch_size = tree.number("train", "batch_size")
    micro = _optional(tree, "micro_batch_size")
    micro_batch_size = batch_size // processes if micro is None else micro
    accumulation = batch_size // (micro_batch_size * processes)
    per_epoch = None if examples is None else updates_per_epoch(examples, micro_batch_size, accumulation, processes)
    max_steps = _optional(tree, "max_steps")
    epochs = tree.real("train", "epochs") if max_steps is None else None
    total = max_steps
    if epochs is not None and per_epoch is not None:
        total = math.ceil(epochs * per_epoch)
    warmup = _optional(tree, "warmup_steps") if warms_up(tree) else 0
    if warmup is None and total is not None:
        ratio = tree.real("train", "warmup_ratio")
        warmup = min(math.ceil(ratio * total), total - 1 if ratio < 1 else total)  # a share leaves a step at the full rate
    return Schedule(
        micro_batch_size=micro_batch_size,
        accumulation=accumulation,
        epochs=epochs,
        steps_per_epoch=per_epoch,
        total_steps=total,
        warmup_steps=warmup,
    )


def _optional(tree: Node, key: str) -> int | None:
    node = tree.at("train", key)
    return node.value if node and isinstance(node.value, int) else None
