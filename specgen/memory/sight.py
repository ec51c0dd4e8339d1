"""Bytes that seeing takes: pixels, what the vision tower computes, and what projector and an adapted tower keep for their gradients.

N images of the micro batch, P positions of the tower, V its hidden size, F its intermediate size, D the language model's hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass

from specgen.facts.tower import TowerFacts
from specgen.memory.step import Step
from specgen.plan import Plan

PIXEL = 4  # bytes: the processor gives float32


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeing:
    """What a micro batch looks at. `rank` is that of the tower's adapter, 0 where the tower is frozen; `trains_tower` says whether all of
    it is trained, `trains_projector` whether the projector is."""

    tower: TowerFacts
    images: int
    rank: int
    trains_tower: bool
    trains_projector: bool


def seeing_of(plan: Plan, tower: TowerFacts, step: Step, *, trains_tower: bool, trains_projector: bool) -> Seeing:
    """A row has one image; a pack has as many as go in."""
    in_a_row = max(1, step.row_tokens // tower.image_tokens) if plan.data.packing else 1
    lora = plan.adapter.vision_tower if plan.adapter else None
    return Seeing(
        tower=tower,
        images=step.rows * in_a_row,
        rank=lora.r if lora else 0,
        trains_tower=trains_tower,
        trains_projector=trains_projector,
    )


def pixels(seeing: Seeing, step: Step) -> int:
    """The images as they are collated, and once more in the tower's type where that is another."""
    number = seeing.images * seeing.tower.channels * seeing.tower.image_size**2
    return number * (PIXEL + (step.compute if step.compute != PIXEL else 0))


def saved(seeing: Seeing, step: Step, hidden: int) -> int:
    """Kept until the backward pass comes to the projector, and to the tower where that has gradients."""
    kept = 0
    if seeing.trains_projector or _has_gradients(seeing):
        patches = seeing.images * seeing.tower.image_tokens
        kept += patches * step.compute * (seeing.tower.hidden + 2 * hidden)  # what goes into its layers, and into the GELU between them
    if _has_gradients(seeing):
        layer = _layer(seeing, step)
        between = _positions(seeing) * step.compute * seeing.tower.hidden
        kept += seeing.tower.used_layers * between + layer if step.checkpointing else seeing.tower.used_layers * layer
    return kept


def needed_looking(seeing: Seeing, step: Step) -> int:
    """The forward pass of the tower: the output of every layer, of which one is taken, and results of the layer at work."""
    tower, positions = seeing.tower, _positions(seeing)
    outputs = (tower.layers + 1) * positions * step.compute * tower.hidden
    scores = (4 + step.compute) * seeing.images * tower.heads * tower.positions**2 if step.attention == "eager" else 0
    at_work = positions * step.compute * (2 * tower.intermediate + 4 * tower.hidden)
    return outputs + max(at_work, scores)


def _positions(seeing: Seeing) -> int:
    return seeing.images * seeing.tower.positions


def _has_gradients(seeing: Seeing) -> bool:
    return seeing.rank > 0 or seeing.trains_tower


def _layer(seeing: Seeing, step: Step) -> int:
    """One layer of the tower: what goes into two norms, queries, keys and values, the attention's output; the feed-forward layer before its
    activation, the gate of that, and what it gives; inputs of linear layers, which an adapter's dropout makes one each, with a mask."""
    tower, drops = seeing.tower, step.dropout and seeing.rank > 0
    numbers = (6 + (5 if drops else 2)) * tower.hidden + 3 * tower.intermediate + 6 * seeing.rank
    scores = 2 * tower.heads * tower.positions if step.attention == "eager" else 0
    masks = (5 * tower.hidden + tower.intermediate) * (step.compute if step.on_cpu else 1) if drops else 0
    return _positions(seeing) * (step.compute * (numbers + scores) + 4 * tower.heads + masks)
