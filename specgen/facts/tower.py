"""The vision tower, as far as its config.json tells without loading weights: its sizes, and how many tokens an image takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specgen.facts.hub_cache import cached_snapshot
from specgen.facts.model import MissingBase, Origin, locate, read_object
from specgen.facts.published import published_config
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
    """Sizes of a vision tower. `kind` is clip_vision_model or siglip_vision_model, `image_size` and `patch_size` are in pixels."""

    kind: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    channels: int
    image_size: int
    patch_size: int
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


def read_tower_facts(tower: PackageBase | HubBase | LocalBase) -> TowerFacts | None:
    """Facts of a vision tower; None for one on the hub that is neither cached nor among the published ones.

    Raises MissingBase, NoTower, or ValueError for a broken file.
    """
    if isinstance(tower, HubBase):
        snapshot = cached_snapshot(tower.repo, tower.revision)
        if snapshot is not None and (snapshot / "config.json").is_file():
            return tower_in_config(read_object(snapshot / "config.json"), origin="hub cache")
        config = published_config(tower.repo)
        return None if config is None else tower_in_config(config, origin="published")
    path = _located(tower)
    if path.is_file():
        raise NoTower(f"{path.name} is a GGUF file")
    return tower_in_config(read_object(path / "config.json"), origin="config.json")


def tower_in_config(config: Mapping[str, Any], *, origin: Origin) -> TowerFacts:
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
