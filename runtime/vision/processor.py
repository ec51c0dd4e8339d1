"""The processor that goes with a LLaVA folder: what it makes of an image is what training sees, and what servers make of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conversations.row import IMAGE
from runtime.config import VisionConfig
from runtime.vision.sizes import Sight

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OF_IMAGES = "preprocessor_config.json"
OWN = "processor_config.json"


def image_settings(tower: Path, sight: Sight, vision: VisionConfig) -> dict[str, Any]:
    """How images become pixel values: the tower's own mean and spread; the shorter side as long as the tower's images, and the centre
    of that, which of a square is all. transformers' LlavaImageProcessor pads to a square first where `pad_to_square` says so."""
    own: dict[str, Any] = {}
    if (tower / OF_IMAGES).is_file():
        own = json.loads((tower / OF_IMAGES).read_text(encoding="utf-8"))
    return {
        "image_processor_type": "LlavaImageProcessor",
        "do_convert_rgb": True,
        "do_pad": vision.pad_to_square,
        "do_resize": True,
        "size": {"shortest_edge": sight.image_size},
        "resample": own.get("resample", sight.resample),
        "do_center_crop": True,
        "crop_size": {"height": sight.image_size, "width": sight.image_size},
        "do_rescale": True,
        "rescale_factor": own.get("rescale_factor", 1 / 255),
        "do_normalize": True,
        "image_mean": list(own.get("image_mean", sight.mean)),
        "image_std": list(own.get("image_std", sight.std)),
    }


def write_image_processor(settings: dict[str, Any], sight: Sight, out: Path) -> None:
    """Writes what AutoImageProcessor and AutoProcessor read; the former also where the latter was written by transformers 4."""
    (out / OF_IMAGES).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    processor = {
        "processor_class": "LlavaProcessor",
        "image_token": IMAGE,
        "patch_size": sight.patch_size,
        "num_additional_image_tokens": sight.class_tokens,
        "vision_feature_select_strategy": sight.strategy,
        "image_processor": settings,
    }
    (out / OWN).write_text(json.dumps(processor, indent=2) + "\n", encoding="utf-8")


def copy_processor(source: Path, out: Path, *, pad_to_square: bool | None = None) -> None:
    """The processor's files of one LLaVA folder in another, which pads otherwise if asked to; its tokenizer and chat template are files of
    their own."""
    for name in (OF_IMAGES, OWN):
        settings = json.loads((source / name).read_text(encoding="utf-8"))
        if pad_to_square is not None:
            settings.get("image_processor", settings)["do_pad"] = pad_to_square
        (out / name).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def image_processor(folder: Path, *, pad_to_square: bool | None = None) -> Any:
    """The image processor of a LLaVA folder, padding as the folder says or as asked."""
    from transformers import AutoImageProcessor

    changed = {} if pad_to_square is None else {"do_pad": pad_to_square}
    return AutoImageProcessor.from_pretrained(folder, **changed)


def mark_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    """Makes the tokenizer's files say that a LLaVA processor goes with them."""
    tokenizer._set_processor_class("LlavaProcessor")
