"""The vision tower, as far as its config.json tells without loading weights: its sizes, and how many tokens an image takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from specgen.facts.architectures import Tensors
from specgen.facts.hub_cache import cached_snapshot
from specgen.facts.model import LANGUAGE, PROJECTOR, TOWER, MissingBase, ModelFacts, Origin, locate, read_object
from specgen.facts.published import published_config, published_tower
from specgen.plan import HubBase, LocalBase, PackageBase

# what transformers' CLIPVisionConfig and SiglipVisionConfig say of a size that config.json leaves out
DEFAULTS = {
    "clip_vision_model": {
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "num_channels": 3,
        "image_size": 224, "patch_size": 32,
    },
    "siglip_vision_model": {
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "num_channels": 3,
        "image_size": 224, "patch_size": 16,
    },
}  # fmt: skip
HALVES = {"clip": "clip_vision_model", "siglip": "siglip_vision_model"}  # models of text and images, and what their vision half is


class NoTower(Exception):
    """It is no vision tower that LLaVA is made with; the text says what it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerFacts:
    """Sizes of a vision tower. `kind` is clip_vision_model or siglip_vision_model, `image_size` and `patch_size` are in pixels. The output
    of the layer `select_layer` is taken, counted as in model.vision."""

    kind: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    channels: int
    image_size: int
    patch_size: int
    select_layer: int
    origin: Origin

    @property
    def image_tokens(self) -> int:
        """One for each patch: CLIP's class token is dropped, SigLIP has none."""
        side: int = self.image_size // self.patch_size
        return side * side

    @property
    def positions(self) -> int:
        """What its attention sees: the patches, and CLIP's class token."""
        return self.image_tokens + (1 if self.kind == "clip_vision_model" else 0)

    @property
    def tensors(self) -> Tensors:
        """Every tensor's shape, by its name in the tower of transformers; without SigLIP's head, which makes one vector of an image."""
        hidden, wide, patch = self.hidden, self.intermediate, self.patch_size
        is_clip = self.kind == "clip_vision_model"
        found: Tensors = {"embeddings.class_embedding": (hidden,)} if is_clip else {"embeddings.patch_embedding.bias": (hidden,)}
        found["embeddings.patch_embedding.weight"] = (hidden, self.channels, patch, patch)
        found["embeddings.position_embedding.weight"] = (self.positions, hidden)
        for name in (*(["pre_layrnorm"] if is_clip else []), "post_layernorm"):
            found |= _norm(name, hidden)
        for layer in range(self.layers):
            found |= {f"encoder.layers.{layer}.{name}": shape for name, shape in _layer(hidden, wide).items()}
        return found

    @property
    def linear(self) -> dict[str, tuple[int, int]]:
        """(in, out) features of the linear layers that may get an adapter, by their names in transformers' LLaVA: those of the layers
        that have a say in what is seen."""
        names = {name: shape for name, shape in self.tensors.items() if name.startswith("encoder.") and len(shape) == 2}
        used = {name: shape for name, shape in names.items() if int(name.split(".")[2]) < self.used_layers}
        return {f"{TOWER}.{name.removesuffix('.weight')}": (shape[1], shape[0]) for name, shape in used.items()}

    @property
    def used_layers(self) -> int:
        """How many layers lie before the output that is taken."""
        return self.select_layer if self.select_layer >= 0 else self.layers + 1 + self.select_layer

    @property
    def parameters(self) -> int:
        """How many numbers its weights have."""
        return sum(map(math.prod, self.tensors.values()))


def seeing(model: ModelFacts, tower: TowerFacts | None) -> ModelFacts:
    """The facts of a language model that sees: its tensors under the names of transformers' LLaVA, the projector's and, where it is
    known, the tower's with them. Of one that sees already only the tower is exchanged."""
    seen = {name: shape for name, shape in model.tensors.items() if name.startswith((f"{PROJECTOR}.", f"{TOWER}."))}
    language = {name if model.sees else _in_llava(name): shape for name, shape in model.tensors.items() if name not in seen}
    before = sum(map(math.prod, seen.values()))
    hidden = model.config.get("hidden_size")
    projector: Tensors = {}
    if isinstance(hidden, int):
        projector = {f"{PROJECTOR}.linear_1.bias": (hidden,), **_linear(f"{PROJECTOR}.linear_2", hidden, hidden)}
        if tower is not None:
            projector |= _linear(f"{PROJECTOR}.linear_1", tower.hidden, hidden)
    eyes = {f"{TOWER}.{name}": shape for name, shape in tower.tensors.items()} if tower else {}
    return replace(
        model,
        parameters=model.parameters - before + sum(math.prod(shape) for shape in {**projector, **eyes}.values()),
        tensors={**language, **projector, **eyes} if language else {},
        linear={name if model.sees else _in_llava(name): sizes for name, sizes in model.linear.items()},
        sees=True,
        tower=tower,
    )


def _in_llava(name: str) -> str:
    return f"{LANGUAGE}.{name.removeprefix('model.')}" if name.startswith("model.") else name


def _linear(name: str, inputs: int, outputs: int) -> Tensors:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, size: int) -> Tensors:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def _layer(hidden: int, wide: int) -> Tensors:
    attention = [_linear(f"self_attn.{part}_proj", hidden, hidden) for part in ("k", "v", "q", "out")]
    parts = [*attention, _norm("layer_norm1", hidden), _norm("layer_norm2", hidden)]
    parts += [_linear("mlp.fc1", hidden, wide), _linear("mlp.fc2", wide, hidden)]
    return {name: shape for part in parts for name, shape in part.items()}


def read_tower_facts(tower: PackageBase | HubBase | LocalBase, *, select_layer: int) -> TowerFacts | None:
    """Facts of a vision tower; None for one on the hub that is neither cached nor among the published ones.

    Raises MissingBase, NoTower, or ValueError for a broken file.
    """
    if isinstance(tower, HubBase):
        snapshot = cached_snapshot(tower.repo, tower.revision)
        if snapshot is not None and (snapshot / "config.json").is_file():
            return tower_in_config(read_object(snapshot / "config.json"), select_layer=select_layer, origin="hub cache")
        config = published_tower(tower.repo) or published_config(tower.repo)
        return None if config is None else tower_in_config(config, select_layer=select_layer, origin="published")
    path = _located(tower)
    if path.is_file():
        raise NoTower(f"{path.name} is a GGUF file")
    return tower_in_config(read_object(path / "config.json"), select_layer=select_layer, origin="config.json")


def tower_in_config(config: Mapping[str, Any], *, select_layer: int = -2, origin: Origin) -> TowerFacts:
    """The tower that a config.json describes: a CLIP or SigLIP vision model, or the vision half of a CLIP or SigLIP model.

    Raises NoTower, or ValueError where a size is no positive whole number.
    """
    kind = str(config.get("model_type"))
    if kind in HALVES:
        half = config.get("vision_config") or {}
        if not isinstance(half, Mapping):
            raise ValueError("its config.json has a vision_config that is no object")
        config, kind = half, HALVES[kind]
    if kind not in DEFAULTS:
        raise NoTower(f"its config.json has model_type {config.get('model_type')!r}")
    sizes = {name: _number(config, name, default) for name, default in DEFAULTS[kind].items()}
    if sizes["image_size"] < sizes["patch_size"]:
        raise ValueError(f"its config.json has patches of {sizes['patch_size']} pixels in images of {sizes['image_size']}")
    return TowerFacts(
        kind=kind,
        hidden=sizes["hidden_size"],
        intermediate=sizes["intermediate_size"],
        layers=sizes["num_hidden_layers"],
        heads=sizes["num_attention_heads"],
        channels=sizes["num_channels"],
        image_size=sizes["image_size"],
        patch_size=sizes["patch_size"],
        select_layer=select_layer,
        origin=origin,
    )


def _located(tower: PackageBase | LocalBase) -> Path:
    try:
        path = locate(tower)
    except MissingBase as error:
        raise MissingBase(str(error).replace("the base model", "the vision tower"), error.install) from None
    assert path is not None
    return path


def _number(config: Mapping[str, Any], key: str, default: int) -> int:
    value = config.get(key, default)
    if isinstance(value, list) and len(set(map(str, value))) == 1:
        value = value[0]  # [336, 336] is a square, too
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1_000_000:
        raise ValueError(f"its config.json has {key} {value!r}; it has to be a whole number from 1 to 1,000,000")
    return value
