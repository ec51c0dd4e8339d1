"""Base + adapter → one Hugging Face folder; then proof that it is the same model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from runtime import console
from runtime.config import Config
from runtime.conversion import merge_record
from runtime.conversion.full import merge_full
from runtime.conversion.layout import read_back, require_layout, written_as
from runtime.conversion.proof import Probe, farthest, limit, logits, probes_of, require_equal
from runtime.conversion.quantized_base import dequantized
from runtime.devices import roomy_device
from runtime.exports.card import model_card
from runtime.freed import give_back
from runtime.generation.generate import generation_config
from runtime.models.adapter import attach
from runtime.models.base import begun_with
from runtime.models.model import (
    auto_class,
    folder_of_model,
    load_model,
    load_tokenizer,
    quantization_settings,
    torch_dtype,
)
from runtime.tokens.text_format import row_format
from runtime.tokens.tokenizer import save_tokenizer
from runtime.training.initial import TAKEN, Taken, read_taken, take_out, weights_of
from runtime.training.train import FINAL
from runtime.vision.parts import adapter_of
from runtime.vision.processor import copy_processor
from runtime.weights import adapters
from runtime.weights.streaming import merge_files, write_config


def merge(config: Config, folder: Path, out: Path) -> dict[str, Any]:
    """Merges the converted adapter into the base; returns figures. Raises RunFault where the result is not the same model."""
    if adapter_of(config) is None:
        return merge_full(config, folder, folder / "train" / FINAL, out)
    export = config.export.merged
    require_layout(export.layout, config.model.base)
    device = roomy_device(export.device, folder_of_model(config.model), torch.float32)
    tokenizer = load_tokenizer(config.model, config.template)
    form = row_format(tokenizer, config, system=config.chat.system)
    probes = probes_of(config, form, device)

    base, trained = _base_to_merge_into(config, folder, probes, device)
    model = attach(base.to(torch_dtype(export.dtype)), folder / "convert").eval()
    wanted, rounding = reference(model, probes)
    settings = generation_config(config.chat, tokenizer, form, base.generation_config)
    settings.validate(strict=True)
    del model, base
    give_back()

    with written_as(export.layout, config.model.base, out, max_shard_size=export.max_shard_size) as place:
        write_merged(config, folder, place, device)
        settings.save_pretrained(str(place))
        save_tokenizer(tokenizer, place, sees=config.model.vision is not None)
        if config.model.vision is not None:
            copy_processor(folder_of_model(config.model), place, pad_to_square=config.model.vision.pad_to_square)
    (out / "README.md").write_text(model_card(config, folder, part="merged"), encoding="utf-8")

    with read_back(export.layout, out) as place:
        reloaded = auto_class(place).from_pretrained(place, dtype=torch.float32, trust_remote_code=config.model.trust_remote_code)
        found = [logits(reloaded.to(device).eval(), probe) for probe in probes]
    difference = farthest(found, wanted)
    number = sum(file.stat().st_size for file in out.glob("*.safetensors"))
    figures = {"dtype": export.dtype, "bytes": number, "distance": difference, "limit": rounding, "device": str(device)}
    if trained is not None:
        figures |= {"base": merged_into(config), "distance_to_trained": farthest(found, trained)}
    hint = "the adapter is kept; merge in float32: export.merged.dtype: float32"
    require_equal(difference, rounding, of="merged model differs from base + adapter", hint=hint)
    console.say("merge", merge_line(figures))
    return figures


def _base_to_merge_into(
    config: Config, folder: Path, probes: list[Probe], device: torch.device
) -> tuple[PreTrainedModel, list[torch.Tensor] | None]:
    """The base that the adapter is added to; and, where training saw a quantized one, the logits of that one with the adapter."""
    base = load_model(config.model, device=device)
    if config.model.quantization is None:
        return base, None
    take_from(base, read_taken(folder / "train" / TAKEN), config)
    with_adapter = attach(base, folder / "convert").eval()
    trained = [logits(with_adapter, probe) for probe in probes]
    base = with_adapter.unload()
    if merged_into(config) == "dequantized":
        return base.dequantize(), trained
    del base, with_adapter
    give_back()
    return load_model(replace(config.model, quantization=None), device=device), trained


def merged_into(config: Config) -> str:
    """Which base the adapter is added to: the quantized one that training saw, dequantized, or as it was before."""
    return config.export.merged.base if config.model.quantization is not None else "full"


def write_merged(config: Config, folder: Path, out: Path, device: torch.device) -> None:
    """The merged weights and config.json, tensor by tensor from the base's files."""
    export, base = config.export.merged, folder_of_model(config.model)
    added = [adapters.read(folder / "convert")]
    merge_record.require_new(base, added)
    written = merge_files(
        base,
        added,
        out,
        dtype=torch_dtype(export.dtype),
        max_shard_size=export.max_shard_size,
        device=device,
        prepare=as_trained_on(config, folder, base, device),
        hint="write export.merged.dtype: float32",
    )
    write_config(base, out, dtype=torch_dtype(export.dtype), tied=written.tied)
    into = merged_into(config)
    merge_record.write(out, base, begun_with(config.model), added, into=into)


def as_trained_on(config: Config, folder: Path, base: Path, device: torch.device) -> Callable[[str, torch.Tensor], torch.Tensor]:
    """What makes of a weight of the base's files the one that is merged into: in the base's type, and quantized and back where
    training saw it quantized and the config says so."""
    dtype = torch_dtype(config.model.dtype)
    if merged_into(config) == "full":
        return lambda _name, weight: weight.to(dtype) if weight.is_floating_point() else weight
    taken = read_taken(folder / "train" / TAKEN)
    trust = config.model.trust_remote_code
    return dequantized(base, quantization_settings(config.model), dtype=dtype, taken=taken, device=device, trust_remote_code=trust)


def take_from(base: PreTrainedModel, taken: Taken, config: Config) -> None:
    """Quantizes these modules as training did: LoftQ's later rounds quantize what the earlier ones leave."""
    weights = weights_of(folder_of_model(config.model)) if taken else None
    for name, both in taken.items():
        assert weights is not None
        take_out(base.get_submodule(name), weights(f"{name}.weight"), *both)


def merge_line(figures: dict[str, Any]) -> str:
    """The figures in a line."""
    trained = figures.get("distance_to_trained")
    return (
        f"{figures['dtype']} · {console.size(figures['bytes'])} · equal to base + adapter within {figures['distance']:.2g}"
        f" ({figures['dtype']} rounding: at most {figures['limit']:.2g})"
        + (f" · into the {figures['base']} base: {trained:.2g} from what was trained" if trained is not None else "")
    )


def reference(model: PeftModel, probes: list[Probe]) -> tuple[list[torch.Tensor], float]:
    """Logits of base + adapter in float32, and how far off they are when computed in the model's own dtype.

    Twice that distance is returned: what the dtype's rounding does to this very model, and what a merged model may be off.
    The model is in float32 afterwards, with the same values.
    """
    rounded = [logits(model, probe) for probe in probes]
    model.float()
    exact = [logits(model, probe) for probe in probes]
    return exact, limit(rounded, exact)
