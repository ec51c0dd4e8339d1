"""Checkpoint → a Hugging Face adapter folder: adapter_config.json, adapter_model.safetensors, README.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import LoraConfig

from runtime import console
from runtime.adapter import read_adapter, write_adapter
from runtime.config import Config, HubBase, LocalBase, PackageBase
from runtime.faults import RunFault
from runtime.model import torch_dtype
from runtime.stages import read_stage
from runtime.train import FINAL


def convert(config: Config, folder: Path, out: Path) -> dict[str, Any]:
    """Writes the trained adapter in the export's dtype; returns its figures. Raises RunFault for weights that are not finite."""
    trained = folder / "train" / FINAL
    dtype = torch_dtype(config.export.adapter.dtype)
    tensors = {name: tensor.to(dtype).contiguous() for name, tensor in read_adapter(trained).items()}
    for name, tensor in tensors.items():
        if not tensor.isfinite().all() or tensor.numel() == 0:
            hint = "write export.adapter.dtype: float32" if tensor.numel() else None
            raise RunFault("SG443", f"{name} is empty or not finite in {config.export.adapter.dtype}", hint)
    settings = LoraConfig.from_pretrained(str(trained))
    settings.base_model_name_or_path = base_name(config.model.base)
    write_adapter(tensors, settings, out, max_shard_size=config.export.adapter.max_shard_size)
    (out / "README.md").write_text(model_card(config, folder, merged=False), encoding="utf-8")
    number = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    console.say("convert", f"adapter · {config.export.adapter.dtype} · {console.size(number)}")
    return {"dtype": config.export.adapter.dtype, "bytes": number, "tensors": len(tensors)}


def base_name(base: PackageBase | HubBase | LocalBase) -> str:
    """How a base model is called outside: never a path of this machine for one from a package."""
    if isinstance(base, HubBase):
        return base.repo
    return f"{base.package}/{base.path}" if isinstance(base, PackageBase) else base.path


def model_card(config: Config, folder: Path, *, merged: bool) -> str:
    """README.md of an exported model: what it is, what it was trained on, how."""
    figures = read_stage(folder, "train").get("summary", {})
    base, lora, train = base_name(config.model.base), config.adapter, config.train
    front = ["---", *([f"base_model: {base}"] if isinstance(config.model.base, HubBase) else [])]
    front += [f"library_name: {'transformers' if merged else 'peft'}", "pipeline_tag: text-generation", "tags: [specgen, lora]", "---"]
    what = "Base model and LoRA adapter, merged" if merged else "A LoRA adapter"
    loss = figures.get("final_loss")
    lines = [
        *front,
        "",
        f"# {config.name}",
        "",
        *([config.description, ""] if config.description else []),
        f"{what}. Base: `{base}`. Chat template: `{config.template.name}`.",
        "",
        f"Trained on {config.data.train_rows:,} rows for {train.total_steps:,} steps of {train.batch_size}"
        + (f"; last loss {loss:.3f}." if loss is not None else "."),
        f"LoRA r {lora.r}, alpha {lora.alpha:g}, dropout {lora.dropout:g}; learning rate {train.learning_rate:g}, {train.schedule};"
        f" base in {config.model.dtype}.",
        "",
    ]
    if not merged:
        lines += ["peft loads this folder while its weights are one file (export.adapter.max_shard_size).", ""]
    return "\n".join(lines)
