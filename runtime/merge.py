"""Base + adapter → one Hugging Face folder; then proof that it is the same model."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedModel

from runtime import console
from runtime.adapter import attach
from runtime.chat_template import ChatFormat
from runtime.config import Config
from runtime.convert import model_card
from runtime.faults import RunFault
from runtime.generate import generation_config
from runtime.model import load_model, load_tokenizer, pick_device, torch_dtype

# Float32 arithmetic in another order: the distance that counts as equal where the dtype itself adds no rounding.
FLOAT32_FLOOR = 1e-4
# Rounding each weight once and rounding in every operation are noise of the same size, but not the same noise: measured, the
# first is 0.5 to 0.9 of the second (LOG.md).
MARGIN = 2


def merge(config: Config, folder: Path, out: Path) -> dict[str, Any]:
    """Merges the converted adapter into the base; returns figures. Raises RunFault where the result is not the same model."""
    device = pick_device(config.export.merged.device)
    tokenizer = load_tokenizer(config.model, config.template)
    chat_format = ChatFormat(tokenizer, system=config.chat.system)
    dtype = torch_dtype(config.export.merged.dtype)

    base = load_model(config.model, device=device)
    if config.model.quantization is not None:
        base = base.dequantize()  # merged into what was trained on, not into the weights before quantization
    model = attach(base.to(dtype), folder / "convert").eval()
    probes = [torch.tensor([ids], device=device) for ids in probe_ids(config, chat_format)]
    wanted, rounding = reference(model, probes)
    merged = model.merge_and_unload().to(dtype)  # added in float32, rounded once
    prepare_export(merged, config, chat_format)
    merged.save_pretrained(str(out), max_shard_size=config.export.merged.max_shard_size)
    tokenizer.save_pretrained(str(out))
    (out / "README.md").write_text(model_card(config, folder, merged=True), encoding="utf-8")
    del model, merged, base
    gc.collect()

    reloaded = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).to(device).eval()
    difference = max(distance(logits(reloaded, probe), reference) for probe, reference in zip(probes, wanted, strict=True))
    number = sum(file.stat().st_size for file in out.glob("*.safetensors"))
    figures = {"dtype": config.export.merged.dtype, "bytes": number, "distance": difference, "limit": rounding, "device": str(device)}
    if not difference <= rounding:
        message = f"the merged model differs from base + adapter by {difference:.3g}; rounding explains {rounding:.3g}"
        raise RunFault("SG451", message, "the adapter is kept; merge in float32: export.merged.dtype: float32")
    console.say("merge", merge_line(figures))
    return figures


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
    noise = max(distance(found, wanted) for found, wanted in zip(rounded, exact, strict=True))
    return exact, max(FLOAT32_FLOOR, MARGIN * noise)


def prepare_export(model: PreTrainedModel, config: Config, chat_format: ChatFormat) -> None:
    """Sets the generation settings that go with the model: greedy or sampling as the chat says, and where to stop."""
    settings = generation_config(config.chat, chat_format.tokenizer, chat_format, model)
    settings.validate(strict=True)
    model.generation_config = settings


def probe_ids(config: Config, chat_format: ChatFormat) -> list[list[int]]:
    """Prompts to compare models on: those of the smoke test and the previews, or a plain one."""
    asked = [item.user for item in config.smoke] + list(config.train.preview.prompts if config.train.preview else ())
    prompts = list(dict.fromkeys(asked))[:8] or ["Hello. Who are you?"]
    return [chat_format.prompt_ids(chat_format.with_system([{"role": "user", "content": prompt}])) for prompt in prompts]


@torch.inference_mode()
def logits(model: Any, input_ids_1T: torch.Tensor) -> torch.Tensor:
    """Logits of every position, float32 [T, V] on the CPU."""
    output: torch.Tensor = model(input_ids=input_ids_1T).logits
    return output[0].float().cpu()


def distance(found_TV: torch.Tensor, wanted_TV: torch.Tensor) -> float:
    """Root mean square of the difference, relative to the spread of the wanted logits; 0 is equal."""
    spread = (wanted_TV - wanted_TV.mean(dim=-1, keepdim=True)).square().mean().sqrt()
    return float((found_TV - wanted_TV).square().mean().sqrt() / spread)
