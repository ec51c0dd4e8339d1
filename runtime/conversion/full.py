"""Full fine-tuning: the trained weights → one Hugging Face folder in the export's dtype; then proof that it is the same model.

Weights are read, rounded and written tensor by tensor: a model needs no more memory than its largest tensor.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from runtime import console
from runtime.config import Config
from runtime.conversion.layout import read_back, require_layout, written_as
from runtime.conversion.proof import farthest, limit, logits, probes_of, require_equal
from runtime.devices import roomy_device
from runtime.exports.card import model_card
from runtime.files import linked
from runtime.freed import give_back
from runtime.generation.generate import generation_config
from runtime.models.model import auto_class, folder_of_model, load_tokenizer, torch_dtype
from runtime.tokens.text_format import row_format
from runtime.tokens.tokenizer import save_tokenizer
from runtime.vision.processor import copy_processor
from runtime.weights.shards import files_of, shapes, tensors
from runtime.weights.written import write_weights


def convert_full(config: Config, trained: Path, out: Path) -> dict[str, Any]:
    """Writes the trained model's weights and settings; returns figures. Raises RunFault for weights that are not finite."""
    export = config.export.merged
    where = files_of(trained, "the trained weights")
    dtype = torch_dtype(export.dtype)
    planned = {name: (shape, dtype) for name, shape in shapes(where)}
    hint = "write export.merged.dtype: float32"
    number = write_weights(planned, lambda name: next(tensors(where, [name]))[1], out, max_shard_size=export.max_shard_size, hint=hint)
    settings = json.loads((trained / "config.json").read_text(encoding="utf-8")) | {"dtype": export.dtype}
    (out / "config.json").write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    console.say("convert", f"whole model · {export.dtype} · {console.size(number)}")
    return {"dtype": export.dtype, "bytes": number, "tensors": len(planned)}


def merge_full(config: Config, folder: Path, trained: Path, out: Path) -> dict[str, Any]:
    """Completes the converted model with tokenizer, template and generation settings; returns figures.

    Raises RunFault where it is not the model that was trained.
    """
    export = config.export.merged
    require_layout(export.layout, config.model.base)
    device = roomy_device(export.device, trained, torch.float32)
    tokenizer = load_tokenizer(config.model, config.template)
    form = row_format(tokenizer, config, system=config.chat.system)
    (out / "README.md").write_text(model_card(config, folder, part="merged"), encoding="utf-8")

    trusted = config.model.trust_remote_code
    model = auto_class(trained).from_pretrained(trained, dtype=torch.float32, trust_remote_code=trusted).to(device).eval()
    settings = generation_config(config.chat, tokenizer, form, model.generation_config)
    settings.validate(strict=True)
    with written_as(export.layout, config.model.base, out, max_shard_size=export.max_shard_size) as place:
        for file in ["config.json", *(file.name for file in (folder / "convert").glob("model*"))]:
            linked(folder / "convert" / file, place / file)
        for code in trained.glob("*.py"):  # of a model whose code transformers does not have
            linked(code, place / code.name)
        settings.save_pretrained(str(place))
        save_tokenizer(tokenizer, place, sees=config.model.vision is not None)
        if config.model.vision is not None:
            copy_processor(folder_of_model(config.model), place, pad_to_square=config.model.vision.pad_to_square)
    probes = probes_of(config, form, device)
    wanted = [logits(model, probe) for probe in probes]
    model.to(torch_dtype(export.dtype))
    most = limit([logits(model, probe) for probe in probes], wanted)
    del model
    give_back()

    with read_back(export.layout, out) as place:
        exported = auto_class(place).from_pretrained(place, dtype=torch.float32, trust_remote_code=trusted).to(device).eval()
        difference = farthest([logits(exported, probe) for probe in probes], wanted)
    number = sum(file.stat().st_size for file in out.glob("*.safetensors"))
    dtype = export.dtype
    require_equal(
        difference,
        most,
        of="exported model differs from the trained weights",
        hint="the trained weights are kept; write export.merged.dtype: float32",
    )
    console.say(
        "merge",
        f"{dtype} · {console.size(number)} · equal to the trained weights within {difference:.2g} ({dtype} rounding: at most {most:.2g})",
    )
    return {"dtype": dtype, "bytes": number, "distance": difference, "limit": most, "device": str(device)}
