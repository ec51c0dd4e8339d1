"""The rule about steps on a loss that jumps."""

from __future__ import annotations

from collections.abc import Iterator

from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts
from specgen.source import Node
from specgen.validate import place_of


def a_step_can_be_left_out(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """DeepSpeed takes its step within the backward pass: it is too late then to leave it out."""
    spike = tree.children["train"].children["loss_spike"]
    stage = tree.number("distributed", "zero_stage")
    if stage and spike.children and tree.text("train", "loss_spike", "action") == "skip":
        yield Diagnostic(
            code="SG685",
            message=f"a step on a loss that jumps cannot be left out under ZeRO (distributed.zero_stage: {stage})",
            place=place_of(tree, "train", "loss_spike", "action"),
            hint="write action: stop, or warn",
        )
