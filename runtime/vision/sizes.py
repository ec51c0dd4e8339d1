"""What a vision tower's config.json says of it, and how many tokens an image takes. Nothing here needs PyTorch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.config import VisionConfig
from runtime.faults import WRONG, RunFault

ALONE = {"clip": "clip_vision_model", "siglip": "siglip_vision_model"}  # a model of texts and images → its half that sees
CLASSES = {"clip_vision_model": "CLIPVisionModel", "siglip_vision_model": "SiglipVisionModel"}
# transformers' own sizes (5.23) where a config.json leaves them out
SIZES = {"clip_vision_model": (224, 32), "siglip_vision_model": (224, 16)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """How a tower sees: sides of images and patches in pixels, and what LLaVA takes of its numbers: `default` drops the
    first of them, a class token, `full` takes all. `mean`, `std` and `resample` are what is usual for its kind."""

    kind: str
    image_size: int
    patch_size: int
    strategy: str
    class_tokens: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resample: int = 3  # bicubic, in Pillow's numbers

    @property
    def tokens(self) -> int:
        """Tokens of an image: one for each patch."""
        return int((self.image_size // self.patch_size) ** 2)


def tower_in(settings: dict[str, Any]) -> dict[str, Any] | None:
    """The tower's part of a config.json, by itself; None where there is no CLIP or SigLIP tower in it."""
    kind = settings.get("model_type")
    if kind in ALONE:
        shared: dict[str, Any] = {name: settings[name] for name in ("dtype", "torch_dtype") if name in settings}
        settings, kind = {**shared, **(settings.get("vision_config") or {})}, ALONE[str(kind)]
    return {**settings, "model_type": kind, "architectures": [CLASSES[str(kind)]]} if kind in CLASSES else None


def tower_settings(folder: Path) -> dict[str, Any]:
    """The config of the tower in a folder. Raises RunFault where there is none that LLaVA is made with."""
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        tower = tower_in(settings)
    except (OSError, ValueError, AttributeError) as error:
        raise RunFault("SG408", f"the vision tower in {folder} cannot be read: its config.json: {error}", exit_code=WRONG) from None
    if tower is None:
        message = f"{folder} holds a model of type {settings.get('model_type')}, and a vision tower is a CLIP or SigLIP model"
        raise RunFault("SG408", message, "give model.vision.tower a CLIP or SigLIP model", exit_code=WRONG)
    return tower


def sight_of(tower: dict[str, Any]) -> Sight:
    """How a tower with this config sees."""
    kind = str(tower["model_type"])
    image_size, patch_size = SIZES[kind]
    is_clip = kind == "clip_vision_model"
    half = (0.5, 0.5, 0.5)
    return Sight(
        kind=kind,
        image_size=_side(tower.get("image_size", image_size)),
        patch_size=_side(tower.get("patch_size", patch_size)),
        strategy="default" if is_clip else "full",
        class_tokens=1 if is_clip else 0,
        mean=(0.48145466, 0.4578275, 0.40821073) if is_clip else half,
        std=(0.26862954, 0.26130258, 0.27577711) if is_clip else half,
    )


def image_tokens(vision: VisionConfig) -> int:
    """How many tokens an image takes: as the compiler counted them, or as the tower's config.json says. Raises RunFault."""
    from runtime.models.base import locate

    if vision.image_tokens is not None:
        return vision.image_tokens
    return sight_of(tower_settings(locate(vision.tower, weights=False))).tokens


def _side(value: Any) -> int:
    return int(value[0] if isinstance(value, list) else value)
