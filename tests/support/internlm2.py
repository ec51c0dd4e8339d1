"""Folders of random InternLM2 models as the published ones are: own names, own code beside the weights, the published tokenizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file

from runtime.internlm2.layout import own_shapes
from runtime.internlm2.settings import sizes_of

FIXTURES = Path(__file__).parents[1] / "internlm2"
LESSON = Path(__file__).parents[2] / "specs/internlm2_chat_1_8b_assistant.yaml"
QUESTION, SENTENCE = "请做一下自我介绍", "我是剑锋大佬的小助手，内在是上海AI实验室书生·浦语的1.8B大模型哦"
# the lesson with a model that a CPU trains in seconds: 26 steps of 4 packs with three rows each
TWIN: dict[str, Any] = {
    "specgen": 1,
    "extends": str(LESSON),
    "name": "twin",
    "model": {"dtype": "float32", "quantization": None},
    "data": {"max_length": 128},
    "adapter": {"lora": {"alpha": 64, "dropout": 0.0}},
    "train": {"epochs": 0.03, "batch_size": 4, "learning_rate": 1.0e-2, "save_steps": 12, "preview": {"every": 12, "max_new_tokens": 8}},
    "distributed": {"zero_stage": 0},
    "hardware": {"device": "cpu", "device_memory": None},
    "export": {"adapter": {"dtype": "float32"}, "merged": {"dtype": "float32"}},
    "chat": {"temperature": 0.0, "max_new_tokens": 60},
}
SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "max_position_embeddings": 1024}
CODE = ("modeling_internlm2.py", "configuration_internlm2.py", "tokenization_internlm2.py")


def write_internlm2(folder: Path, *, std: float = 0.25, **sizes: Any) -> Path:
    """Writes such a folder, whose code ends whoever runs it; `sizes` are laid over the config.json of a tiny one. Returns it."""
    folder.mkdir(parents=True)
    settings = json.loads((FIXTURES / "rope_dynamic/config.json").read_text()) | {"vocab_size": 92_544} | sizes
    (folder / "config.json").write_text(json.dumps(settings))
    generator = torch.Generator().manual_seed(0)
    shapes = own_shapes(sizes_of(settings, folder))
    weights = {name: torch.randn(shape, generator=generator) * std for name, shape in shapes.items()}
    save_file({name: weight.abs() + 0.5 if "norm" in name else weight for name, weight in weights.items()}, folder / "model.safetensors")
    _write_tokenizer(folder)
    for name in CODE:
        (folder / name).write_text("raise SystemExit('it is run')\n")
    return folder


def write_twin(folder: Path, **sections: dict[str, Any]) -> Path:
    """Writes the lesson's twin, with sections laid over it, and its base; returns the spec. A key of a section replaces its."""
    base = write_internlm2(folder / "internlm2-tiny", **SIZES)
    spec = {name: {**section, **sections.get(name, {})} if isinstance(section, dict) else section for name, section in TWIN.items()}
    spec["model"]["base"] = str(base)
    (folder / "twin.yaml").write_text(yaml.safe_dump(spec, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return folder / "twin.yaml"


def _write_tokenizer(folder: Path) -> None:
    shutil.copyfile(FIXTURES / "tokenizer/tokenizer.model", folder / "tokenizer.model")
    special = json.loads((FIXTURES / "tokenizer/special_tokens.json").read_text(encoding="utf-8"))
    named = {str(token["id"]): {"content": token["content"], "special": True} for token in special["control_tokens"]}
    named |= {str(number): {"content": text, "special": True} for number, text in enumerate(("<unk>", "<s>", "</s>"))}
    own = {"added_tokens_decoder": named, "tokenizer_class": "InternLM2Tokenizer", "chat_template": special["chat_template"]}
    own |= {name: special[name] for name in ("bos_token", "eos_token", "unk_token", "pad_token", "add_bos_token")}
    (folder / "tokenizer_config.json").write_text(json.dumps(own))
