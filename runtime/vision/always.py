"""What sees takes part in every step, also where a batch shows nothing.

Trained weights without a gradient would leave processes waiting for each other, and so would weights that ZeRO-3 gathers in one of
them only. So where a batch of training or validation has no image, an empty one is looked at, and counts nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import LlavaModel

# B batch, T tokens, D model


def look_always(model: Any) -> None:
    """Makes a LLaVA model, maybe in peft's wrapping, look at an empty image where it gets none and no cache: as losses are computed."""
    llava = next(module for module in model.modules() if isinstance(module, LlavaModel))
    has_looked = False

    def looks(_module: Any, _arguments: Any, _output: Any) -> None:
        nonlocal has_looked
        has_looked = True

    def look(_module: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        nonlocal has_looked
        saw, has_looked = has_looked, False
        if saw or options.get("use_cache") is not False or options.get("inputs_embeds") is None:
            return None
        embedded_BTD = options["inputs_embeds"]
        seeing = llava.config.vision_config
        side = seeing.image_size
        empty = torch.zeros(1, seeing.num_channels, side, side, device=embedded_BTD.device, dtype=embedded_BTD.dtype)
        features = torch.cat(llava.get_image_features(pixel_values=empty, return_dict=True).pooler_output)
        has_looked = False
        return arguments, {**options, "inputs_embeds": embedded_BTD + 0 * features.sum().to(embedded_BTD.dtype)}

    llava.multi_modal_projector.register_forward_hook(looks)
    llava.language_model.register_forward_pre_hook(look, with_kwargs=True)
