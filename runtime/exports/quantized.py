"""The merged model once more, quantized, as a Hugging Face folder. Proof: it is loaded as anyone would, and asked the smoke test."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoTokenizer, GenerationConfig

from runtime import console
from runtime.config import Config, Int8Export, Nf4Export, TorchaoExport
from runtime.devices import roomy_device
from runtime.evaluation.expectations import unmet
from runtime.evaluation.smoke import asked
from runtime.faults import RunFault
from runtime.freed import give_back
from runtime.generation.generate import Answer, generator_of
from runtime.models.model import SEEING, auto_class, keep_packing, require_bitsandbytes, torch_dtype
from runtime.tokens.tokenizer import save_tokenizer
from runtime.vision.folders import is_llava
from runtime.vision.processor import copy_processor

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, TorchAoConfig


def write_quantized(config: Config, merged: Path, out: Path) -> dict[str, Any]:
    """Writes the folder, loads it again and asks it; returns figures. Raises RunFault where it cannot be made or loaded."""
    assert config.export.quantized is not None
    kind = config.export.quantized.TAG
    settings = settings_of(config.export.quantized, sees=is_llava(merged))
    dtype = torch_dtype(config.export.merged.dtype)
    device = roomy_device(config.export.merged.device, merged, dtype)
    trusted = config.model.trust_remote_code
    options = {"quantization_config": settings, "device_map": {"": device}, "trust_remote_code": trusted}
    try:
        model = auto_class(merged).from_pretrained(merged, dtype=dtype, **options)
        model.save_pretrained(str(out), max_shard_size=config.export.merged.max_shard_size)
    except (RuntimeError, ValueError, NotImplementedError, ImportError) as error:
        message = f"the model cannot be quantized to {name_of(config.export.quantized)} on {device}: {console.one_line(str(error), 200)}"
        raise RunFault("SG479", message, "on a GPU more of them work; or leave out export.quantized") from None
    GenerationConfig.from_pretrained(merged).save_pretrained(str(out))
    save_tokenizer(AutoTokenizer.from_pretrained(merged, trust_remote_code=trusted), out)
    if is_llava(merged):
        copy_processor(merged, out)
    del model
    give_back()
    answers = answers_of(config, out, device)
    transcript: list[dict[str, Any]] = [
        {"user": item.user, "answer": answer.text, "problems": unmet(item.expect, answer)}
        for item, answer in zip(config.smoke, answers, strict=True)
    ]
    passed = not any(entry["problems"] for entry in transcript)
    size = sum(file.stat().st_size for file in out.glob("*.safetensors"))
    verdict = "the smoke test is passed" if passed else "✗ the smoke test is not passed once it is quantized"
    console.say("export", f"{name_of(config.export.quantized)} · {console.size(size)}" + (f" · {verdict}" if transcript else ""))
    for entry in transcript:
        for problem in entry["problems"]:
            console.say("", f"  {console.one_line(entry['user'], 40)} → {console.one_line(entry['answer'], 60)}: {problem}")
    return {"kind": kind, "bytes": size, "passed": passed, "transcript": transcript}


def name_of(wanted: Nf4Export | Int8Export | TorchaoExport) -> str:
    """What a quantization is called in messages."""
    return f"torchao {wanted.type}" if isinstance(wanted, TorchaoExport) else wanted.TAG


def settings_of(wanted: Nf4Export | Int8Export | TorchaoExport, *, sees: bool = False) -> BitsAndBytesConfig | TorchAoConfig:
    """The quantization in transformers' terms, of a model that `sees` only of its words. Raises RunFault where its package is missing."""
    skipped = list(SEEING) if sees else None
    if isinstance(wanted, TorchaoExport):
        return _torchao(wanted, skipped)
    from transformers import BitsAndBytesConfig

    require_bitsandbytes("export.quantized")
    if isinstance(wanted, Int8Export):
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=wanted.double_quant,
        bnb_4bit_compute_dtype=torch_dtype(wanted.compute_dtype),
        llm_int8_skip_modules=skipped,
    )


def _torchao(wanted: TorchaoExport, skipped: list[str] | None) -> TorchAoConfig:
    if importlib.util.find_spec("torchao") is None:
        raise RunFault("SG479", "export.quantized needs torchao, which is not installed", "pip install 'specgen[torchao]'")
    from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    kinds = {"int8_weight_only": Int8WeightOnlyConfig, "int4_weight_only": Int4WeightOnlyConfig}
    return TorchAoConfig(quant_type=kinds[wanted.type](), modules_to_not_convert=skipped)


def answers_of(config: Config, folder: Path, device: torch.device) -> list[Answer]:
    """What a quantized folder answers to the questions of the smoke test. Raises RunFault where it cannot be loaded."""
    try:
        trusted = config.model.trust_remote_code
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trusted)
        model = auto_class(folder).from_pretrained(folder, device_map={"": device}, trust_remote_code=trusted).eval()
    except (RuntimeError, ValueError, NotImplementedError, ImportError, OSError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise RunFault("SG479", f"the quantized model cannot be loaded again: {console.one_line(str(error), 200)}") from None
    keep_packing(model, where_needed=True)
    generator = generator_of(config, tokenizer, config.chat)
    return [generator.answer(model, [asked(item)]) for item in config.smoke]
