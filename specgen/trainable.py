"""Which modules are adapted, and how many parameters are trained."""

from __future__ import annotations

import math

from specgen.facts.model import ModelFacts
from specgen.plan import LoraAdapter
from specgen.rules.adapter import matched


def adapted_modules(adapter: LoraAdapter | None, model: ModelFacts) -> set[str]:
    """The dotted names of the modules that get a LoRA update."""
    if adapter is None:
        return set()
    if isinstance(adapter.targets, str):
        return set(model.linear)
    return {module for target in adapter.targets for module in matched(target, model.linear)}


def trainable_parameters(adapter: LoraAdapter | None, model: ModelFacts) -> int:
    """Parameters that get a gradient."""
    if adapter is None:
        return model.parameters
    shapes = [model.linear[module] for module in adapted_modules(adapter, model)]
    lengths = sum(shape[1] for shape in shapes) if adapter.use_dora else 0  # DoRA: one length for each output
    whole = {module for name in adapter.modules_to_save for module in matched(name, model.modules)}
    return adapter.r * sum(sum(shape) for shape in shapes) + lengths + sum(_parameters_of(module, model) for module in whole)


def _parameters_of(module: str, model: ModelFacts) -> int:
    found = [math.prod(shape) for name, shape in model.tensors.items() if name.rpartition(".")[0] == module]
    tied = model.tensors.get("model.embed_tokens.weight", ()) if module == "lm_head" else ()
    return sum(found) or (math.prod(tied) if tied else 0)
