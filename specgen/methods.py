"""How a spec trains its model, in a word: what the library is sorted by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from specgen.source import Node

Method = Literal["full", "lora", "qlora", "projector"]
METHODS: tuple[Method, ...] = get_args(Method)


def method_of(tree: Node) -> Method:
    """Of a complete tree. qlora is an adapter on any quantized base, projector is LLaVA's first stage."""
    from specgen.rules.matrix import trains_projector_alone  # the rules are no part of what --help loads

    if trains_projector_alone(tree):
        return "projector"
    if tree.children["adapter"].value is None:
        return "full"
    return "qlora" if tree.children["model"].children["quantization"].children else "lora"
