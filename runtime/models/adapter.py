"""Adapter folders in peft's form: read whole or sharded, written in a dtype."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, set_peft_model_state_dict
from transformers import PreTrainedModel

from runtime.faults import WRONG, RunFault
from runtime.internlm2.adapters import to_llama
from runtime.weights.shards import OF_ADAPTERS, files_of
from runtime.weights.shards import tensors as tensors_of
from runtime.weights.written import write_weights

WEIGHTS = OF_ADAPTERS[0]


def read_adapter(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of an adapter folder, on the CPU. Raises RunFault where a file is missing."""
    where = files_of(folder, "the adapter", OF_ADAPTERS)
    return {name: tensor.clone() for name, tensor in tensors_of(where, where)}


def write_adapter(
    tensors: dict[str, torch.Tensor],
    settings: LoraConfig,
    folder: Path,
    *,
    dtype: torch.dtype,
    max_shard_size: str,
    form: str = "safetensors",
    hint: str | None = None,
) -> int:
    """Writes adapter_config.json and the weights in a dtype, sharded where they are larger than `max_shard_size`; returns their bytes.

    Raises RunFault for weights that are empty or not finite in it; `hint` says what helps.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings.save_pretrained(str(folder))
    kinds = {name: (list(tensor.shape), dtype) for name, tensor in tensors.items()}
    return write_weights(kinds, tensors.__getitem__, folder, max_shard_size=max_shard_size, form=form, of="adapter", hint=hint)


def turned_for(base: Mapping[str, Any], tensors: dict[str, torch.Tensor], settings: LoraConfig, folder: Path) -> dict[str, torch.Tensor]:
    """An adapter's tensors by the names of a base with this config.json, and `settings` with them: a Llama's for InternLM2's own.

    Raises RunFault where one of them finds no place. `folder` is the adapter's, for messages.
    """
    turned = to_llama(tensors, settings.to_dict(), base, folder)
    for name, value in turned.settings.items():
        setattr(settings, name, value)
    return turned.tensors


def attach(base: PreTrainedModel, folder: Path) -> PeftModel:
    """The base model with the adapter of a folder on top. Raises RunFault where a tensor finds no place."""
    settings = LoraConfig.from_pretrained(str(folder))
    settings.inference_mode = True
    tensors = turned_for(base.config.to_dict(), read_adapter(folder), settings, folder)
    model = PeftModel(base, settings)
    try:
        result = set_peft_model_state_dict(model, tensors)
    except RuntimeError as error:  # a size that is another
        reason = str(error).strip().splitlines()[-1].strip()
        raise RunFault("SG442", f"the adapter in {folder} does not fit the base model: {reason}", exit_code=WRONG) from None
    missing = [name for name in result.missing_keys if "lora_" in name or "modules_to_save" in name]
    if missing or result.unexpected_keys:
        names = ", ".join([*missing, *result.unexpected_keys][:3])
        raise RunFault("SG442", f"the adapter in {folder} does not fit the base model: {names}")
    return model
