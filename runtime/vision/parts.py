"""The parts of a LLaVA model by their names: what an adapter adapts of it, and training that moves the projector alone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from runtime.config import Config, LoraAdapter
from runtime.models.model import is_called

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PROJECTOR = "multi_modal_projector"
NAMES_OF_PROJECTOR = {PROJECTOR, f"model.{PROJECTOR}"}  # a pattern such as *proj* or * means more than it: q_proj, or all
LANGUAGE, TOWER = "language_model", "vision_tower"
OF_TOWER = r"vision_tower\..*"
NOTHING = "dummy-target-modules"  # peft's word for an adapter that adapts no module


def adapter_of(config: Config) -> LoraAdapter | None:
    """The adapter that is trained. Where only the projector is (a pretraining), that is one as well, of nothing but a copy of the
    projector: a checkpoint holds no more than it, and the language model may be quantized."""
    if config.adapter is not None or not trains_projector_alone(config):
        return config.adapter
    return LoraAdapter(
        r=1,
        alpha=1.0,
        dropout=0.0,
        targets=(),
        use_rslora=False,
        use_dora=False,
        modules_to_save=(PROJECTOR,),
        init_lora_weights="default",
        loftq_iter=1,
        rank_pattern={},
        alpha_pattern={},
        layers_to_transform=None,
        exclude_modules=(),
        loraplus_lr_ratio=None,
        vision_tower=None,
    )


def trains_projector_alone(config: Config) -> bool:
    """Whether no adapter is trained, and of the model the projector only."""
    parts = config.train.trainable_modules
    return config.adapter is None and config.model.vision is not None and bool(parts) and NAMES_OF_PROJECTOR.issuperset(parts)


def within_language_model(names: Iterable[str]) -> list[str]:
    """Of modules those of the language model."""
    return [name for name in names if f".{LANGUAGE}." in f".{name}"]


def targets_of(lora: LoraAdapter, model: PreTrainedModel) -> list[str]:
    """What the adapter adapts, by whole names: the modules of the language model that it names, all its linear layers for all-linear; with
    vision_tower the linear layers of those of the tower's layers that have a say in what is seen. The output layer is in neither."""
    import torch

    modules = dict(model.named_modules())
    words = [name for name in within_language_model(modules) if _is_in_layers(name, lora.layers_to_transform)]
    if isinstance(lora.targets, str):
        found = [name for name in words if isinstance(modules[name], torch.nn.Linear)]
    else:
        found = [name for name in words if any(is_called(name, target) for target in lora.targets)]
    found = [name for name in found if not any(is_called(name, other) for other in lora.exclude_modules)]
    if lora.vision_tower is not None:
        used = used_tower_layers(model.config)
        tower = [name for name in modules if f".{TOWER}." in f".{name}" and isinstance(modules[name], torch.nn.Linear)]
        found += [name for name in tower if (layer := _layer(name)) is not None and layer < used]
    return found


def patterns_of(lora: LoraAdapter) -> tuple[dict[str, int], dict[str, float]]:
    """peft's rank_pattern and alpha_pattern: the tower has its own rank and alpha."""
    ranks, alphas = dict(lora.rank_pattern), dict(lora.alpha_pattern)
    if lora.vision_tower is not None:
        ranks[OF_TOWER], alphas[OF_TOWER] = lora.vision_tower.r, lora.vision_tower.alpha
    return ranks, alphas


def used_tower_layers(config: Any) -> int:
    """How many of the tower's layers lie before what LLaVA takes of it; `config` is transformers' LlavaConfig."""
    layers, taken = config.vision_config.num_hidden_layers, config.vision_feature_layer
    return int(taken if taken >= 0 else layers + 1 + taken)


def _is_in_layers(name: str, layers: tuple[int, ...] | None) -> bool:
    return layers is None or _layer(name) in layers


def _layer(name: str) -> int | None:
    found = re.search(r"\.layers\.(\d+)\.", name)
    return int(found[1]) if found else None
