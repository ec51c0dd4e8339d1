"""Base + adapter → one Hugging Face folder; then proof that it is the same model."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from runtime import console
from runtime.adapter import attach
from runtime.card import model_card
from runtime.config import Config
from runtime.full import merge_full
from runtime.generate import generation_config
from runtime.initial import TAKEN, Taken, read_taken, take_out, weights_of
from runtime.model import folder_of, load_model, load_tokenizer, pick_device, torch_dtype
from runtime.proof import farthest, limit, logits, probe_ids, require_equal
from runtime.text_format import RowFormat, row_format
from runtime.tokenizer import save_tokenizer
from runtime.train import FINAL


def merge(config: Config, folder: Path, out: Path) -> dict[str, Any]:
    """Merges the converted adapter into the base; returns figures. Raises RunFault where the result is not the same model."""
    if config.adapter is None:
        return merge_full(config, folder, folder / "train" / FINAL, out)
    device = pick_device(config.export.merged.device)
    tokenizer = load_tokenizer(config.model, config.template)
    form = row_format(tokenizer, config, system=config.chat.system)
    dtype = torch_dtype(config.export.merged.dtype)

    base = load_model(config.model, device=device)
    if config.model.quantization is not None:
        take_from(base, read_taken(folder / "train" / TAKEN), config)
        base = base.dequantize()  # merged into what was trained on, not into the weights before quantization
    model = attach(base.to(dtype), folder / "convert").eval()
    probes = [torch.tensor([ids], device=device) for ids in probe_ids(config, form)]
    wanted, rounding = reference(model, probes)
    merged = model.merge_and_unload().to(dtype)  # added in float32, rounded once
    prepare_export(merged, config, tokenizer, form)
    merged.save_pretrained(str(out), max_shard_size=config.export.merged.max_shard_size)
    save_tokenizer(tokenizer, out)
    (out / "README.md").write_text(model_card(config, folder, part="merged"), encoding="utf-8")
    del model, merged, base
    gc.collect()

    reloaded = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).to(device).eval()
    difference = farthest([logits(reloaded, probe) for probe in probes], wanted)
    number = sum(file.stat().st_size for file in out.glob("*.safetensors"))
    figures = {"dtype": config.export.merged.dtype, "bytes": number, "distance": difference, "limit": rounding, "device": str(device)}
    hint = "the adapter is kept; merge in float32: export.merged.dtype: float32"
    require_equal(difference, rounding, of="merged model differs from base + adapter", hint=hint)
    console.say("merge", merge_line(figures))
    return figures


def take_from(base: PreTrainedModel, taken: Taken, config: Config) -> None:
    """Quantizes these modules as training did: LoftQ's later rounds quantize what the earlier ones leave."""
    weights = weights_of(folder_of(config.model.base)) if taken else None
    for name, both in taken.items():
        assert weights is not None
        take_out(base.get_submodule(name), weights(f"{name}.weight"), *both)


def merge_line(figures: dict[str, Any]) -> str:
    """The figures in a line."""
    return (
        f"{figures['dtype']} · {console.size(figures['bytes'])} · equal to base + adapter within {figures['distance']:.2g}"
        f" ({figures['dtype']} rounding: at most {figures['limit']:.2g})"
    )


def reference(model: PeftModel, probes: list[torch.Tensor]) -> tuple[list[torch.Tensor], float]:
    """Logits of base + adapter in float32, and how far off they are when computed in the model's own dtype.

    Twice that distance is returned: what the dtype's rounding does to this very model, and what a merged model may be off.
    The model is in float32 afterwards, with the same values.
    """
    rounded = [logits(model, probe) for probe in probes]
    model.float()
    exact = [logits(model, probe) for probe in probes]
    return exact, limit(rounded, exact)


def prepare_export(model: PreTrainedModel, config: Config, tokenizer: PreTrainedTokenizerBase, form: RowFormat) -> None:
    """Sets the generation settings that go with the model: greedy or sampling as the chat says, and where to stop."""
    settings = generation_config(config.chat, tokenizer, form, model)
    settings.validate(strict=True)
    model.generation_config = settings
