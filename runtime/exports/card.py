"""README.md of an exported model: what it is, what it was trained on, how, and what it has shown.

All of it is from the config and from the records of the run. What differs from one run to the next (times, memory) is not in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path, PurePath
from typing import Any, Literal

from runtime import __version__
from runtime.config import Config, FileSource, HubBase, HubSource, LlmSource, ModelConfig, Source, SyntheticSource
from runtime.exports.licence import licence_of
from runtime.models.base import base_name
from runtime.stages import read_stage
from runtime.training.trained_on import takes_before_quantization
from runtime.vision.parts import adapter_of, trains_projector_alone

Part = Literal["adapter", "merged", "gguf", "quantized"]
FOLDERS: dict[Part, str] = {"adapter": "convert", "merged": "merge", "gguf": "export/gguf", "quantized": "export/quantized"}  # of a run
POINTS = 12  # of the training curve
LIBRARIES = ("torch", "transformers", "peft", "accelerate", "datasets")
RELATIONS = {"adapter": "adapter", "merged": "finetune", "gguf": "quantized", "quantized": "quantized"}


def model_card(config: Config, folder: Path, *, part: Part) -> str:
    """README.md of a part of what was exported. What has not been run yet is left out of it."""
    import yaml

    licence = licence_of(config.model.base)
    front = yaml.safe_dump(_front(config, part, licence), sort_keys=False, allow_unicode=True)
    sections = [
        f"# {config.name}",
        config.description,
        f"{_what(config, part)}. {_base(config.model)}. {_form(config)}.",
        *_usage(config, part),
        *_data(config, folder),
        *_recipe(config),
        *_curve(folder),
        *_evaluation(folder),
        *_limits(config, licence),
        *_made_by(),
    ]
    return f"---\n{front}---\n\n" + "\n\n".join(section for section in sections if section) + "\n"


def write_cards(config: Config, folder: Path) -> None:
    """Writes the cards of all that was exported anew: now they can say what the tests showed."""
    wanted: dict[Part, bool] = {
        "adapter": adapter_of(config) is not None,
        "merged": True,
        "gguf": config.export.gguf is not None,
        "quantized": config.export.quantized is not None,
    }
    for part in [part for part, is_wanted in wanted.items() if is_wanted]:
        card = folder / FOLDERS[part] / "README.md"
        scratch = card.with_name("README.md.partial")
        scratch.write_text(model_card(config, folder, part=part), encoding="utf-8")
        scratch.replace(card)  # a new file: another run may hold a link to the old one


def _front(config: Config, part: Part, licence: str | None) -> dict[str, Any]:
    base = config.model.base
    lora = [] if config.adapter is None else ["lora"]
    hub = sorted({source.repo for source in config.data.sources if isinstance(source, HubSource)})
    front: dict[str, Any] = {}
    if licence is not None:
        front["license"] = licence
    if isinstance(base, HubBase):
        front |= {"base_model": base.repo, "base_model_relation": RELATIONS[part]}
    if part != "gguf":
        front["library_name"] = "peft" if part == "adapter" else "transformers"
    if hub:
        front["datasets"] = hub
    tags = ["specgen", *(lora or ["full-fine-tuning"]), *([part] if part in ("gguf", "quantized") else [])]
    return front | {"pipeline_tag": "image-text-to-text" if config.model.vision is not None else "text-generation", "tags": tags}


def _base(model: ModelConfig) -> str:
    named = f"Base: `{base_name(model.base)}`"
    named += f", as the run in `{model.from_run}` left it" if model.from_run is not None else ""
    return named + (f". It sees through `{base_name(model.vision.tower)}`" if model.vision is not None else "")


def _what(config: Config, part: Part) -> str:
    if trains_projector_alone(config):
        place = "" if part == "adapter" else ", in the model that it was trained in"
        return f"A projector between vision tower and language model{place}"
    if part == "adapter":
        return "A LoRA adapter"
    whole = "All weights trained" if config.adapter is None else "Base model and LoRA adapter, merged"
    return whole + {"gguf": "; as GGUF files for llama.cpp and Ollama", "quantized": "; quantized"}.get(part, "")


def _usage(config: Config, part: Part) -> list[str]:
    if part == "gguf":
        return [f"Run it: `ollama create {config.name} -f Modelfile`, or `llama-cli -m FILE` with one of the files."]
    if part != "adapter":
        return []
    lines = ["peft loads this folder while its weights are one file (export.adapter.max_shard_size)."]
    if config.adapter and takes_before_quantization(config.adapter.init_lora_weights, config.adapter.loftq_iter):
        lines += ["LoftQ quantized the base anew in each round: this adapter belongs to that base. Take the merged model."]
    return lines


def _data(config: Config, folder: Path) -> list[str]:
    figures = read_stage(folder, "data").get("summary", {})
    if not figures:
        return []
    by_source = figures["by_source"]
    rows = [[source_name(source), f"{count:,}"] for source, count in zip(config.data.sources, by_source, strict=True)]
    share = 100 * figures["trained_tokens"] / max(1, figures["tokens"])
    counted = (
        f"{figures['train_rows']:,} rows for training, {figures['validation_rows']:,} held out; {figures['distinct']:,} distinct."
        f" {figures['tokens']:,} tokens in an epoch, {share:.0f} % of them trained; the longest row has {figures['longest']:,}."
        f" {figures['dropped']:,} rows were dropped, {figures['truncated']:,} truncated."
    )
    return ["## Data", _table(["source", "rows"], rows), counted]


def source_name(source: Source) -> str:
    """What a source is called outside: never a path of this machine."""
    if isinstance(source, HubSource):
        return f"`{source.repo}`" + (f", {source.subset}" if source.subset else "") + (f" at {source.revision}" if source.revision else "")
    if isinstance(source, FileSource):
        return source.name or ", ".join(f"`{PurePath(file.path).name}`" for file in source.files[:3]) + (" …" if source.files[3:] else "")
    kind = f"written by {PurePath(source.model).name}" if isinstance(source, LlmSource) else "made by rules"
    assert isinstance(source, LlmSource | SyntheticSource)
    return f"{source.name}: {kind}" if source.name else kind


def _recipe(config: Config) -> list[str]:
    train, world = config.train, config.distributed
    length = f"{train.epochs:g} epochs" if train.epochs is not None else f"{train.max_steps:,} steps"
    steps = f" ({train.total_steps:,} steps)" if train.epochs is not None and train.total_steps is not None else ""
    warmup = f", {train.warmup_steps} steps of warmup" if train.warmup_steps else ""
    quantization = config.model.quantization
    rows = [
        ["trained", method(config)],
        ["base in", config.model.dtype + ("" if quantization is None else f", quantized to {quantization.TAG}")],
        ["objective", train.objective + (f", trained on {config.data.train_on}" if train.objective == "chat" else "")],
        ["length of a row", f"at most {config.data.max_length:,} tokens" + (", packed" if config.data.packing else "")],
        ["duration", length + steps],
        ["batch", f"{train.batch_size} rows, over {world.world_size} process{'es' if world.world_size > 1 else ''}"],
        ["learning rate", f"{train.learning_rate:g}, {train.schedule}{warmup}"],
        ["optimizer", f"{train.optimizer}, weight decay {train.weight_decay:g}, gradients up to {train.max_grad_norm:g}"],
        ["seed", str(train.seed)],
        *([["ZeRO stage", str(world.zero_stage)]] if world.zero_stage else []),
        *([["NEFTune", f"{train.neftune_noise_alpha:g}"]] if train.neftune_noise_alpha else []),
        *([["label smoothing", f"{train.label_smoothing_factor:g}"]] if train.label_smoothing_factor else []),
    ]
    return ["## Recipe", _table(["setting", "value"], rows)]


def _curve(folder: Path) -> list[str]:
    from runtime.training.metrics import METRICS, VALIDATION, read_lines

    points = read_lines(folder / "train" / METRICS)
    if not points:
        return []
    held = {line["step"]: line["loss"] for line in read_lines(folder / "train" / VALIDATION)}
    shown = {point["step"]: point["loss"] for point in points}
    places = sorted({round(index * (len(points) - 1) / max(1, POINTS - 1)) for index in range(POINTS)})
    steps = sorted({points[place]["step"] for place in places} | set(list(held)[-POINTS:]))
    head = ["step", "loss", *(["validation loss"] if held else [])]
    rows = [[str(step), _loss(shown.get(step)), *([_loss(held.get(step))] if held else [])] for step in steps]
    return ["## Training curve", "Mean loss of a trained token, in nats.", _table(head, rows)]


def _loss(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _evaluation(folder: Path) -> list[str]:
    smoke = read_stage(folder, "smoke").get("summary", {})
    if not smoke.get("transcript"):
        return []
    rows = [
        [_cell(entry["user"]), _cell(entry["base"]), _cell(entry["answer"]), "; ".join(map(_cell, entry["problems"])) or "✓"]
        for entry in smoke["transcript"]
    ]
    verdict = "It passed its smoke test." if smoke["passed"] else "**It failed its smoke test.**"
    return ["## What it answers", verdict, _table(["asked", "the base", "this model", ""], rows)]


def _limits(config: Config, licence: str | None) -> list[str]:
    told = (
        f"The base's licence, {licence}, holds for this model, too." if licence else "The base's licence is not known here; it holds, too."
    )
    lines = [
        f"- {told}",
        "- Nothing was checked but what stands above: test it on your own questions before others use it.",
        f"- It has learned from rows of at most {config.data.max_length:,} tokens; what the base gets wrong, this model may, too.",
    ]
    return ["## Limits", "\n".join(lines)]


def _made_by() -> list[str]:
    versions = ", ".join(f"{library} {version(library)}" for library in LIBRARIES)
    return ["## Made by", f"specgen {__version__}, with {versions}."]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(text: str) -> str:
    """A text in a cell of a table: one line, and nothing that Markdown or HTML would take for its own."""
    line = " ".join(text.split())
    for sign, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("`", "\\`"), ("*", "\\*"), ("_", "\\_"), ("[", "\\[")):
        line = line.replace(sign, name)
    return line


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
