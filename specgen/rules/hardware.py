"""Rules about the machine, where the spec says what it is."""

from __future__ import annotations

from collections.abc import Iterator

from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts
from specgen.source import Node
from specgen.validate import place_of


def every_process_has_a_device(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """One process trains on one GPU; more processes than that would share."""
    devices = tree.at("hardware", "devices")
    processes = tree.number("distributed", "processes_per_node")
    if devices is None or not isinstance(devices.value, int) or tree.text("hardware", "device") == "cpu":
        return
    if processes > devices.value:
        yield Diagnostic(
            code="SG273",
            message=f"distributed.processes_per_node is {processes}, and a node has {devices.value} devices",
            place=place_of(tree, "distributed", "processes_per_node"),
            related=((devices.place, "hardware.devices is set here"),) if devices.place else (),
            hint=f"write processes_per_node: {devices.value}",
        )
    elif processes < devices.value:
        yield Diagnostic(
            code="SG273",
            severity="note",
            message=f"{processes} of the {devices.value} devices of a node train; the others are idle",
            place=place_of(tree, "distributed", "processes_per_node"),
            hint=f"write processes_per_node: {devices.value}",
        )
