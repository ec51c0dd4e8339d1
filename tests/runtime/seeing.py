"""A tiny random model that sees, for whoever talks to one: a Llama of two layers behind a CLIP tower, put together as any other."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoTokenizer, CLIPVisionConfig, CLIPVisionModel

from runtime.config import LocalBase, VisionConfig
from runtime.tokens.tokenizer import save_tokenizer
from runtime.vision.folders import assemble
from tests.runtime.small_models import small_model
from tests.runtime.small_tokenizers import small_tokenizer

TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32, "patch_size": 8}
IMAGE_TOKENS = 16


def seeing_folder(folder: Path, *, context: int = 512, template: str | None = None) -> Path:
    """Writes the model into FOLDER/seeing. `template` is another chat template than ChatML's."""
    small_model("llama", max_position_embeddings=context).save_pretrained(folder / "words")
    tokenizer = small_tokenizer("smollm")
    tokenizer.chat_template = template or tokenizer.chat_template
    tokenizer.save_pretrained(folder / "words")
    torch.manual_seed(1)
    CLIPVisionModel(CLIPVisionConfig(**TOWER)).save_pretrained(folder / "tower")
    settings = {"projector": "mlp2x_gelu", "select_layer": -2, "pad_to_square": True, "image_tokens": IMAGE_TOKENS}
    vision = VisionConfig(tower=LocalBase(path=str(folder / "tower")), **settings)
    (folder / "seeing").mkdir()
    assemble(folder / "words", folder / "tower", vision, folder / "seeing")
    save_tokenizer(AutoTokenizer.from_pretrained(folder / "seeing"), folder / "seeing", sees=True)  # as a merge exports it
    return folder / "seeing"
