"""Which modules are adapted, with which rank, and how many parameters are trained."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from specgen.facts.model import LANGUAGE, PROJECTOR, ModelFacts
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


def adapter_in(plan: Plan) -> LoraAdapter | None:
    """What is trained beside frozen weights. Where only the projector of a model that sees is, the runtime takes that as an adapter of
    nothing but a copy of the projector."""
    if plan.adapter is not None or plan.model.vision is None or not names_projector_alone(plan.train.trainable_modules):
        return plan.adapter
    return LoraAdapter(
        r=1,
        alpha=1.0,
        dropout=0.0,
        targets=(),
        use_rslora=False,
        use_dora=False,
        modules_to_save=(PROJECTOR.rpartition(".")[2],),
        init_lora_weights="default",
        loftq_iter=1,
        rank_pattern={},
        alpha_pattern={},
        layers_to_transform=None,
        exclude_modules=(),
        loraplus_lr_ratio=None,
        vision_tower=None,
    )


def names_projector_alone(names: Sequence[str]) -> bool:
    """Whether names of trainable_modules are those of the projector: a pattern such as *proj* or * means more than it. The runtime's
    vision/parts.py tells it alike."""
    return bool(names) and {PROJECTOR, PROJECTOR.rpartition(".")[2]}.issuperset(names)


def ranks_of(adapter: LoraAdapter, model: ModelFacts) -> dict[str, int]:
    """Every module that gets an update and its rank: those of the vision tower, too, which have one of their own."""
    ranks = {module: rank_of(adapter, module) for module in adapted_modules(adapter, model)}
    if adapter.vision_tower is not None and model.tower is not None:
        ranks |= dict.fromkeys(model.tower.linear, adapter.vision_tower.r)
    return ranks


def linear_of(model: ModelFacts) -> dict[str, tuple[int, int]]:
    """(in, out) features of the linear modules of the language model and of the vision tower."""
    return {**model.linear, **(model.tower.linear if model.tower else {})}


def trainable_parameters(plan: Plan, model: ModelFacts) -> int:
    """Parameters that get a gradient."""
    adapter = adapter_in(plan)
    if adapter is None:
        return sum(math.prod(shape) for shape in trained_tensors(plan.train.trainable_modules, model).values()) or model.parameters
    ranks = ranks_of(adapter, model)
    sizes = linear_of(model)
    low_rank = sum(rank * sum(sizes[module]) for module, rank in ranks.items())
    lengths = sum(sizes[module][1] for module in ranks) if adapter.use_dora else 0  # DoRA: one for each output
    whole = {module for name in adapter.modules_to_save for module in matched(name, model.modules)}
    return low_rank + lengths + sum(_parameters_of(module, model) for module in whole)


def exported_parameters(plan: Plan, model: ModelFacts) -> int:
    """Parameters of the exported adapter: that of PiSSA and OLoRA has twice the rank, what was learnt and what was taken."""
    adapter = plan.adapter
    if adapter is None or not (adapter.init_lora_weights == "olora" or adapter.init_lora_weights.startswith("pissa")):
        return trainable_parameters(plan, model)
    low_rank = sum(rank * sum(linear_of(model)[module]) for module, rank in ranks_of(adapter, model).items())
    return trainable_parameters(plan, model) + low_rank


def trained_tensors(names: tuple[str, ...], model: ModelFacts) -> dict[str, tuple[int, ...]]:
    """The shapes of the base's own tensors that these names of trainable_modules choose; all without names."""
    embedding = f"{LANGUAGE if model.sees else 'model'}.embed_tokens.weight"
    tied = {embedding: "lm_head.weight"} if model.tie_word_embeddings else {}
    return {
        tensor: shape
        for tensor, shape in model.tensors.items()
        if not names or any(is_named(name, tensor) or (tensor in tied and is_named(name, tied[tensor])) for name in names)
    }


def _parameters_of(module: str, model: ModelFacts) -> int:
    found = [math.prod(shape) for name, shape in model.tensors.items() if name.startswith(f"{module}.")]
    tied = model.embedding or () if module == "lm_head" else ()
    return sum(found) or (math.prod(tied) if tied else 0)
