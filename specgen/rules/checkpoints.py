"""Rules about evaluations and checkpoints: what is asked of them has to be there."""

from __future__ import annotations

from collections.abc import Iterator

from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts
from specgen.source import Node
from specgen.validate import place_of

ASKS_FOR_VALIDATION = ("eval_steps", "load_best_model_at_end", "early_stopping")
GATHERS = "stage3_gather_16bit_weights_on_model_save"


def a_loss_that_is_asked_for_is_measured(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Without rows held out there is no validation loss to decide by."""
    if tree.children["data"].children["validation"].children:
        return
    for key in ASKS_FOR_VALIDATION:
        node = tree.children["train"].children[key]
        if node.children or node.value:
            yield Diagnostic(
                code="SG681",
                message=f"train.{key} goes by the validation loss, and data.validation holds no rows out",
                place=node.key or place_of(tree, "train", key),
                hint=f"write data.validation: {{fraction: 0.1}}, or leave train.{key} out",
            )


def zero_3_is_saved_whole(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Ungathered, a file of weights has empty tensors: no checkpoint could be the best one, and none is a result."""
    node = tree.at("distributed", "deepspeed", "zero_optimization", GATHERS)
    if node is not None and node.value is False and tree.number("distributed", "zero_stage") == 3:
        yield Diagnostic(
            code="SG682",
            message=f"{GATHERS} is false: under ZeRO-3 every saved tensor would be empty",
            place=node.place,
            hint=f"leave {GATHERS} out",
        )
