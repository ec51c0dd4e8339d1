"""Which modules are adapted, with which rank, and how many parameters are trained."""

from __future__ import annotations

import math
import re

from specgen.facts.model import ModelFacts
from specgen.modules import is_named, layer_of, matched
from specgen.plan import LoraAdapter, Plan


def adapted_modules(adapter: LoraAdapter | None, model: ModelFacts) -> set[str]:
    """The dotted names of the modules that get a LoRA update, as peft chooses them."""
    if adapter is None:
        return set()
    if isinstance(adapter.targets, str):
        found = set(model.linear)
    else:
        found = {module for target in adapter.targets for module in matched(target, model.linear)}
    without = {module for name in (*adapter.exclude_modules, *adapter.modules_to_save) for module in matched(name, model.linear)}
    layers, exact = adapter.layers_to_transform, set(adapter.targets if not isinstance(adapter.targets, str) else ())
    return {module for module in found - without if layers is None or module in exact or layer_of(module) in layers}


def rank_of(adapter: LoraAdapter, module: str) -> int:
    """A module's own rank: the first entry of rank_pattern that matches the end of its name, a regular expression to peft."""
    return next((rank for name, rank in adapter.rank_pattern.items() if re.match(rf"(.*\.)?({name})$", module)), adapter.r)


def trainable_parameters(plan: Plan, model: ModelFacts) -> int:
    """Parameters that get a gradient."""
    adapter = plan.adapter
    if adapter is None:
        return sum(math.prod(shape) for shape in trained_tensors(plan.train.trainable_modules, model).values()) or model.parameters
    modules = adapted_modules(adapter, model)
    low_rank = sum(rank_of(adapter, module) * sum(model.linear[module]) for module in modules)
    lengths = sum(model.linear[module][1] for module in modules) if adapter.use_dora else 0  # DoRA: one for each output
    whole = {module for name in adapter.modules_to_save for module in matched(name, model.modules)}
    return low_rank + lengths + sum(_parameters_of(module, model) for module in whole)


def exported_parameters(plan: Plan, model: ModelFacts) -> int:
    """Parameters of the exported adapter: that of PiSSA and OLoRA has twice the rank, what was learnt and what was taken."""
    adapter = plan.adapter
    if adapter is None or not (adapter.init_lora_weights == "olora" or adapter.init_lora_weights.startswith("pissa")):
        return trainable_parameters(plan, model)
    low_rank = sum(rank_of(adapter, module) * sum(model.linear[module]) for module in adapted_modules(adapter, model))
    return trainable_parameters(plan, model) + low_rank


def trained_tensors(names: tuple[str, ...], model: ModelFacts) -> dict[str, tuple[int, ...]]:
    """The shapes of the base's own tensors that these names of trainable_modules choose; all without names."""
    tied = {"model.embed_tokens.weight": "lm_head.weight"} if model.tie_word_embeddings else {}
    return {
        tensor: shape
        for tensor, shape in model.tensors.items()
        if not names or any(is_named(name, tensor) or (tensor in tied and is_named(name, tied[tensor])) for name in names)
    }


def _parameters_of(module: str, model: ModelFacts) -> int:
    found = [math.prod(shape) for name, shape in model.tensors.items() if name.rpartition(".")[0] == module]
    tied = model.tensors.get("model.embed_tokens.weight", ()) if module == "lm_head" else ()
    return sum(found) or (math.prod(tied) if tied else 0)
