"""Adapter folders in peft's form: read whole or sharded, written in a dtype."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict
from peft import LoraConfig, PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import PreTrainedModel

from runtime.faults import RunFault

WEIGHTS = "adapter_model.safetensors"
INDEX = WEIGHTS + ".index.json"


def read_adapter(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of an adapter folder, on the CPU. Raises RunFault where a file is missing."""
    try:
        if (folder / WEIGHTS).exists():
            tensors: dict[str, torch.Tensor] = load_file(folder / WEIGHTS)
            return tensors
        shards = set(json.loads((folder / INDEX).read_text())["weight_map"].values())
        return {name: tensor for shard in sorted(shards) for name, tensor in load_file(folder / shard).items()}
    except (OSError, ValueError) as error:
        raise RunFault("SG441", f"the adapter in {folder} cannot be read: {error}") from None


def write_adapter(tensors: dict[str, torch.Tensor], settings: LoraConfig, folder: Path, *, max_shard_size: str) -> None:
    """Writes adapter_config.json and the weights, sharded where they are larger than `max_shard_size`."""
    folder.mkdir(parents=True, exist_ok=True)
    settings.save_pretrained(str(folder))
    pattern = WEIGHTS.replace(".safetensors", "{suffix}.safetensors")
    save_torch_state_dict(tensors, folder, filename_pattern=pattern, max_shard_size=max_shard_size, metadata={"format": "pt"})


def attach(base: PreTrainedModel, folder: Path) -> PeftModel:
    """The base model with the adapter of a folder on top. Raises RunFault where a tensor finds no place."""
    settings = LoraConfig.from_pretrained(str(folder))
    settings.inference_mode = True
    model = PeftModel(base, settings)
    result = set_peft_model_state_dict(model, read_adapter(folder))
    missing = [name for name in result.missing_keys if "lora_" in name or "modules_to_save" in name]
    if missing or result.unexpected_keys:
        names = ", ".join([*missing, *result.unexpected_keys][:3])
        raise RunFault("SG442", f"the adapter in {folder} does not fit the base model: {names}")
    return model
