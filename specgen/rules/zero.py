"""Rules about DeepSpeed."""

from __future__ import annotations

from collections.abc import Iterator

from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts
from specgen.source import Node
from specgen.validate import place_of


def offload_needs_a_stage(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """ZeRO can only move out what it manages."""
    stage, offload = tree.number("distributed", "zero_stage"), tree.text("distributed", "offload")
    least = {"none": 0, "optimizer": 1, "all": 3}[offload]
    if stage < least:
        message = f"distributed.offload: {offload} needs zero_stage {least} or more; it is {stage}"
        yield Diagnostic(
            code="SG261",
            message=message,
            place=place_of(tree, "distributed", "offload"),
            hint=f"write zero_stage: {max(least, 2)}, or offload: none",
        )


def quantized_weights_are_not_sharded(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """This version loads quantized weights whole on every process; ZeRO-3 would shard them."""
    quantization = tree.children["model"].children["quantization"]
    if quantization.value is not None and tree.number("distributed", "zero_stage") == 3:
        yield Diagnostic(
            code="SG262",
            message="quantized base weights cannot be shared out by ZeRO-3 here",
            place=place_of(tree, "distributed", "zero_stage"),
            hint="write zero_stage: 2",
        )


def sharing_needs_processes(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """A stage without processes to share among is allowed, and does nothing: say so."""
    stage = tree.number("distributed", "zero_stage")
    processes = tree.number("distributed", "processes_per_node") * tree.number("distributed", "nodes")
    if stage and processes == 1 and tree.text("distributed", "offload") == "none":
        yield Diagnostic(
            code="SG263",
            severity="note",
            message=f"zero_stage {stage} with one process shares nothing out",
            place=place_of(tree, "distributed", "zero_stage"),
        )
