"""Random models of two layers, one for each model type that is written as GGUF, and of the other families that are known."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    InternLM3Config,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

VOCABULARY = 512
COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "head_dim": 16,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
GEMMA = {"query_pre_attn_scalar": 16, "sliding_window": 64}
SIZES: dict[str, tuple[type, dict[str, Any]]] = {
    "gemma": (GemmaConfig, {}),
    "gemma2": (Gemma2Config, GEMMA),
    "gemma3_text": (Gemma3TextConfig, {**GEMMA, "num_hidden_layers": 6}),
    "llama": (LlamaConfig, {"attention_bias": False}),
    "mistral": (MistralConfig, {"sliding_window": None}),
    "qwen2": (Qwen2Config, {}),
    "qwen3": (Qwen3Config, {}),
}
OTHERS: dict[str, tuple[type, dict[str, Any]]] = {
    "internlm3": (InternLM3Config, {}),
    "phi3": (Phi3Config, {}),
    "qwen3_moe": (Qwen3MoeConfig, {}),
}


def small_model(kind: str, **changed: Any) -> PreTrainedModel:
    """A random model whose every tensor counts: norms and biases are not what they begin as."""
    torch.manual_seed(0)
    settings, own = {**SIZES, **OTHERS}[kind]
    model = AutoModelForCausalLM.from_config(settings(**{**COMMON, **own, **changed}), attn_implementation="eager").eval()
    for name, tensor in model.named_parameters():
        if tensor.dim() == 1:
            torch.nn.init.normal_(tensor, mean=0.0 if name.endswith("bias") or kind.startswith("gemma") else 1.0, std=0.1)
    return model.requires_grad_(False)


def in_float16(model):
    """The model with its matrices rounded to float16, as a file of the type f16 holds them."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data = parameter.data.half().to(parameter.dtype)
    return model
