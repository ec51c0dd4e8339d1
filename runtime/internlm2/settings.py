"""What an InternLM2 folder's config.json says, and the same as a Llama's. Nothing here needs PyTorch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.faults import WRONG, RunFault

MODEL_TYPE, LLAMA = "internlm2", "llama"
SCALINGS = ("linear", "dynamic")
# what a Llama's config.json calls otherwise, or has no use for
LEFT_OUT = ("_name_or_path", "architectures", "attn_implementation", "auto_map", "bias", "tokenizer_class", "transformers_version")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The sizes that all shapes follow from. `tied` says that there is no output layer beside the embedding."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool

    @property
    def head(self) -> int:
        """The size of a head."""
        return self.hidden // self.heads

    @property
    def group(self) -> int:
        """Query heads that share a key head and a value head."""
        return self.heads // self.kv_heads


def is_internlm2(folder: Path) -> bool:
    """Whether a folder's config.json says so. One that cannot be read is somebody else's to tell."""
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(settings, dict) and settings.get("model_type") == MODEL_TYPE


def read_settings(folder: Path) -> dict[str, Any]:
    """An InternLM2 folder's config.json. Raises RunFault for what a Llama would compute in another way, or not at all."""
    settings: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    sizes_of(settings, folder)
    if settings.get("bias") is not False:
        raise cannot_be_converted(
            folder, f"its config.json has bias {json.dumps(settings.get('bias'))}; only false is known to be published"
        )
    if settings.get("hidden_act", "silu") != "silu":
        raise cannot_be_converted(folder, f"its config.json has hidden_act {settings['hidden_act']!r}, not 'silu'")
    _require_scaling(settings.get("rope_scaling"), folder)
    for name, default in (("rope_theta", 10_000), ("rms_norm_eps", 1e-6), ("max_position_embeddings", 2_048)):
        value = settings.setdefault(name, default)  # InternLM2Config has these where config.json is silent
        if not _is_number(value) or value <= 0:
            raise cannot_be_converted(folder, f"its config.json has {name} {value!r}; it has to be a number above 0")
    return settings


def sizes_of(settings: Mapping[str, Any], folder: Path) -> Sizes:
    """The sizes in a config.json of InternLM2 or Llama. Raises RunFault where one is missing, wrong, or does not go with another."""

    def number(name: str) -> int:
        value = settings.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise cannot_be_converted(folder, f"its config.json has {name} {value!r}; it has to be a whole number from 1 on")
        return value

    hidden, heads = number("hidden_size"), number("num_attention_heads")
    kv_heads = heads if settings.get("num_key_value_heads") is None else number("num_key_value_heads")
    if hidden % heads or heads % kv_heads:
        reason = f"its config.json has hidden_size {hidden}, {heads} heads and {kv_heads} key/value heads, which do not divide"
        raise cannot_be_converted(folder, reason)
    return Sizes(
        hidden=hidden,
        intermediate=number("intermediate_size"),
        layers=number("num_hidden_layers"),
        heads=heads,
        kv_heads=kv_heads,
        vocabulary=number("vocab_size"),
        tied=bool(settings.get("tie_word_embeddings", False)),
    )


def llama_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same as a Llama's config.json, in words that older releases of transformers know, too."""
    kept = {name: value for name, value in settings.items() if name not in LEFT_OUT}
    return {**kept, "architectures": ["LlamaForCausalLM"], "model_type": LLAMA, "attention_bias": False, "mlp_bias": False}


def cannot_be_converted(folder: Path, reason: str) -> RunFault:
    """The fault of an InternLM2 folder that is no Llama, or is damaged."""
    hint = "give a folder as InternLM publishes it, or one that transformers reads"
    return RunFault("SG497", f"the InternLM2 model in {folder} cannot be converted: {reason}", hint, exit_code=WRONG)


def _require_scaling(scaling: object, folder: Path) -> None:
    if scaling is None:
        return
    kind = scaling.get("type", scaling.get("rope_type")) if isinstance(scaling, dict) else None
    factor = scaling.get("factor") if isinstance(scaling, dict) else None
    if kind not in SCALINGS or factor is None or not _is_number(factor) or factor < 1:
        reason = (
            f"its config.json has rope_scaling {json.dumps(scaling)}; a type ({' or '.join(SCALINGS)}) and a factor from 1 on are known"
        )
        raise cannot_be_converted(folder, reason)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
