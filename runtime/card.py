"""README.md of an exported model, and what the trained thing is called."""

from __future__ import annotations

from pathlib import Path

from runtime.config import Config, HubBase, LocalBase, PackageBase
from runtime.stages import read_stage


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
    front += [
        f"library_name: {'transformers' if merged else 'peft'}",
        "pipeline_tag: text-generation",
        f"tags: [specgen, {'lora' if lora else 'full-fine-tuning'}]",
        "---",
    ]
    what = "All weights trained" if lora is None else "Base model and LoRA adapter, merged" if merged else "A LoRA adapter"
    loss = figures.get("final_loss")
    lines = [
        *front,
        "",
        f"# {config.name}",
        "",
        *([config.description, ""] if config.description else []),
        f"{what}. Base: `{base}`. {_form(config)}.",
        "",
        f"Trained on {config.data.train_rows:,} rows for {train.total_steps:,} steps of {train.batch_size}"
        + (f"; last loss {loss:.3f}." if loss is not None else "."),
        f"{method(config)}; learning rate {train.learning_rate:g}, {train.schedule}; base in {config.model.dtype}.",
        "",
    ]
    if not merged:
        lines += ["peft loads this folder while its weights are one file (export.adapter.max_shard_size).", ""]
        if lora and lora.init_lora_weights == "loftq" and lora.loftq_iter > 1:
            lines += ["LoftQ quantized the base anew in each round: this adapter belongs to that base. Take the merged model.", ""]
    return "\n".join(lines)


def method(config: Config) -> str:
    """How the base was trained, in a line."""
    lora, parts = config.adapter, config.train.trainable_modules
    if lora is None:
        return "full fine-tuning" + (f" of {', '.join(parts)}" if parts else "")
    name = ("rs" if lora.use_rslora else "") + ("DoRA" if lora.use_dora else "LoRA")
    begun = f", initial weights by {lora.init_lora_weights}" if lora.init_lora_weights != "default" else ""
    rates = f", B at {lora.loraplus_lr_ratio:g} times the rate (LoRA+)" if lora.loraplus_lr_ratio else ""
    saved = f", trained whole: {', '.join(lora.modules_to_save)}" if lora.modules_to_save else ""
    return f"{name} r {lora.r}, alpha {lora.alpha:g}, dropout {lora.dropout:g}{begun}{rates}{saved}"


def _form(config: Config) -> str:
    if config.train.objective == "text":
        return "Continued pretraining on text, without a chat template"
    return f"Chat template: `{config.template.name}`"
