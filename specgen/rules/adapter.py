"""Rules about the adapter."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from specgen.diagnostics import Diagnostic
from specgen.facts.gather import Facts
from specgen.source import Node


def targets_match(tree: Node, facts: Facts) -> Iterator[Diagnostic]:
    """Each target names at least one module. peft complains only when none of them does."""
    targets = tree.at("adapter", "lora", "targets")
    if targets is None or facts.model is None or not facts.model.linear:
        return
    modules = facts.model.linear
    leaves = sorted({module.rpartition(".")[2] for module in modules})
    for node in targets.items:
        name = str(node.value)
        if not matched(name, modules):
            near = difflib.get_close_matches(name.rpartition(".")[2], leaves, n=1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            yield Diagnostic(
                code="SG241",
                message=f"the target {name} matches 0 modules of the base model",
                place=node.place,
                hint=f"{hint}its linear modules are {', '.join(leaves)}",
            )


def matched(target: str, modules: dict[str, tuple[int, int]]) -> list[str]:
    """The modules that peft adapts for one target: of that name, or ending in a dot and it."""
    return [module for module in modules if module == target or module.endswith(f".{target}")]
