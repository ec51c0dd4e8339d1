"""Checkpoint → a Hugging Face adapter folder: adapter_config.json, adapter_model.safetensors, README.md; or a whole model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import LoraConfig

from runtime import console
from runtime.config import Config
from runtime.conversion.full import convert_full
from runtime.conversion.restored import against_base
from runtime.exports.card import model_card
from runtime.models.adapter import read_adapter, write_adapter
from runtime.models.base import begun_with
from runtime.models.model import quantization_settings, torch_dtype
from runtime.training import trained_on
from runtime.training.initial import TAKEN, read_taken
from runtime.training.train import FINAL
from runtime.vision.parts import adapter_of, trains_projector_alone


def convert(config: Config, folder: Path, out: Path) -> dict[str, Any]:
    """Writes what was trained in the export's dtype; returns its figures. Raises RunFault for weights that are not finite."""
    trained = folder / "train" / FINAL
    lora = adapter_of(config)
    if lora is None:
        return convert_full(config, trained, out)
    dtype = torch_dtype(config.export.adapter.dtype)
    whole, settings = read_adapter(trained), LoraConfig.from_pretrained(str(trained))
    if trained_on.takes_from_base(lora.init_lora_weights):
        whole = against_base(whole, settings, read_taken(folder / "train" / TAKEN))
    settings.base_model_name_or_path = begun_with(config.model)
    export = config.export.adapter
    hint = "write export.adapter.dtype: float32"
    number = write_adapter(whole, settings, out, dtype=dtype, max_shard_size=export.max_shard_size, hint=hint)
    if config.model.quantization is not None:
        taken = trained_on.takes_before_quantization(lora.init_lora_weights, lora.loftq_iter)
        trained_on.write(out, quantization_settings(config.model).to_dict(), dtype=config.model.dtype, taken=taken)
    (out / "README.md").write_text(model_card(config, folder, part="adapter"), encoding="utf-8")
    console.say("convert", f"{'projector' if trains_projector_alone(config) else 'adapter'} · {export.dtype} · {console.size(number)}")
    return {"dtype": export.dtype, "bytes": number, "tensors": len(whole)}
