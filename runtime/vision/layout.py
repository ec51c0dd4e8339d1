"""LLaVA as transformers (5.23) has it: its config.json, and which tensor of which model becomes which of its own."""

from __future__ import annotations

import math
from typing import Any

import torch

from runtime.config import VisionConfig
from runtime.models.shaping import CAP, FACTORS
from runtime.vision.sizes import sight_of
from runtime.vision.tokens import vocabulary_with

LANGUAGE, TOWER, PROJECTOR = "model.language_model.", "model.vision_tower.", "model.multi_modal_projector."
OUTPUT = "lm_head.weight"
HEAD = "head."  # SigLIP's: it makes one vector of an image, which LLaVA does not ask for
POSITIONS = "position_ids"  # counted by the model's code: old files have them
MODEL_TYPE = "llava"
LEFT_OUT = ("_name_or_path", "architectures", "auto_map", "torch_dtype", "dtype", "transformers_version", "quantization_config")
SEED = 0


def llava_settings(text: dict[str, Any], tower: dict[str, Any], vision: VisionConfig, *, image_token: int, tied: bool) -> dict[str, Any]:
    """LLaVA's config.json, of those of the language model and of the tower. An image's token gets a row of the embedding."""
    from transformers import AutoConfig

    sight = sight_of(tower)
    seeing = {name: value for name, value in tower.items() if name not in LEFT_OUT}
    if sight.kind == "siglip_vision_model":
        seeing["vision_use_head"] = False
    own = {name: value for name, value in text.items() if name not in LEFT_OUT}
    own |= {"vocab_size": vocabulary_with(image_token, int(text["vocab_size"])), "tie_word_embeddings": tied}
    kept = {name: text[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id") if text.get(name) is not None}
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": MODEL_TYPE,
        "dtype": text.get("dtype", text.get("torch_dtype", "float32")),
        **kept,
        "image_token_index": image_token,
        "image_seq_length": sight.tokens,
        "projector_hidden_act": "gelu",
        "multimodal_projector_bias": True,
        "vision_feature_layer": vision.select_layer,
        "vision_feature_select_strategy": sight.strategy,
        "tie_word_embeddings": tied,
        "text_config": own,
        "vision_config": AutoConfig.for_model(**seeing).to_diff_dict(),
    }


def why_not(text: Any) -> str | None:
    """Why a language model with this config (transformers' PreTrainedConfig) cannot be LLaVA's: that has no other way to logits than
    its output layer. None where nothing stands against it."""
    for name in (*FACTORS, CAP):
        value = getattr(text, name, None)
        if value is not None and not (name in FACTORS and value == 1):
            return f"its logits are shaped by {name}: {value}, which transformers' LLaVA leaves out"
    return None


def shapes_of(settings: dict[str, Any]) -> dict[str, list[int]]:
    """Tensor name → shape of a LLaVA model with this config.json; the output layer only where it is not the embedding."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.for_model(**settings))
    tied = {OUTPUT} if settings["tie_word_embeddings"] else set()
    return {name: list(tensor.shape) for name, tensor in model.state_dict().items() if name not in tied}


def of_language_model(name: str) -> str:
    """What a language model's tensor is called in LLaVA."""
    return name if name == OUTPUT or name.startswith("lm_head.") else LANGUAGE + name.removeprefix("model.")


def of_tower(name: str) -> str | None:
    """What a tensor of a CLIP or SigLIP model is called in LLaVA; None for those that it has not."""
    from runtime.vision.tower import TOWER as PREFIX
    from runtime.vision.tower import is_of_tower

    own = name.removeprefix(PREFIX)
    return None if not is_of_tower(name) or own.startswith(HEAD) or own.endswith(POSITIONS) else TOWER + own


def projector_weight(name: str, shapes: dict[str, list[int]]) -> torch.Tensor:
    """A weight or bias of the projector as it begins, float32: as torch.nn.Linear's, by a seed of its own."""
    module = name.rpartition(".")[0]
    bound = 1 / math.sqrt(shapes[f"{module}.weight"][1])
    chance = torch.Generator().manual_seed(SEED + sorted(shapes).index(name))
    return torch.empty(shapes[name]).uniform_(-bound, bound, generator=chance)


def grown(rows_VD: torch.Tensor, vocabulary: int) -> torch.Tensor:
    """An embedding or output layer with more rows, each the mean of those that were there."""
    more = vocabulary - len(rows_VD)
    if more <= 0:
        return rows_VD
    mean_D = rows_VD.float().mean(dim=0, keepdim=True).to(rows_VD.dtype)
    return torch.cat([rows_VD, mean_D.expand(more, -1)])
