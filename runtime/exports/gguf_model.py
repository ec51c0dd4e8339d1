"""A model's settings and tensors in llama.cpp's terms. What llama.cpp would compute in another way is refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from conversations.llama_cpp import ARCHITECTURES
from runtime.faults import WRONG, RunFault

if TYPE_CHECKING:
    from gguf import GGUFWriter
    from transformers import PreTrainedConfig

GEMMA_FULL_ATTENTION_EVERY = 6
LARGEST_GEMMA2, LARGEST_GEMMA3 = 46, 62  # layers of the 27B models, whose queries llama.cpp scales by the hidden size
ROPES = ("default", "linear", "llama3", "yarn")
SILU, GELU = ("silu", "swish"), ("gelu_pytorch_tanh", "gelu_new", "gelu_fast")  # the same numbers under several names


def architecture_of(settings: PreTrainedConfig) -> str:
    """Its name in a GGUF file. Raises RunFault for a model that llama.cpp would compute in another way, or that is not known here."""
    kind = settings.model_type
    if kind not in ARCHITECTURES:
        hint = f"it is written for {', '.join(ARCHITECTURES)}"
        raise RunFault("SG478", f"export.gguf is not written for the model type {kind}", hint, exit_code=WRONG)
    if (what := _different(settings)) is not None:
        message = f"llama.cpp computes {what} in another way than this model, so export.gguf is not written"
        raise RunFault("SG478", message, "leave out export.gguf", exit_code=WRONG)
    return ARCHITECTURES[kind]


def _different(settings: PreTrainedConfig) -> str | None:
    """What of a model llama.cpp has no setting for."""
    rope = full_rope(settings).get("rope_type", "default")
    if rope not in ROPES:
        return f"rotary embeddings of the type {rope}"
    kind, layers = settings.model_type, settings.num_hidden_layers
    activation = settings.hidden_activation if kind in ("gemma2", "gemma3_text") else settings.hidden_act
    if activation not in (GELU if ARCHITECTURES[kind].startswith("gemma") else SILU):
        return f"the activation {activation}"
    if kind in ("gemma2", "gemma3_text"):
        largest = LARGEST_GEMMA2 if kind == "gemma2" else LARGEST_GEMMA3
        scale = settings.hidden_size // settings.num_attention_heads if layers == largest else settings.head_dim
        if settings.query_pre_attn_scalar != scale:
            return f"query_pre_attn_scalar {settings.query_pre_attn_scalar:g}"
        every = 2 if kind == "gemma2" else GEMMA_FULL_ATTENTION_EVERY
        usual = ["full_attention" if (index + 1) % every == 0 else "sliding_attention" for index in range(layers)]
        if list(settings.layer_types) != usual:
            return "layer_types"
    return None


def context_of(settings: PreTrainedConfig) -> int:
    """The longest text that llama.cpp computes as the model does: of Gemma it knows that layers look back no further than a window; of the
    others (Mistral 7B v0.1) it does not, and within a window that is the same."""
    window = None if settings.model_type in ("gemma2", "gemma3_text") else getattr(settings, "sliding_window", None)
    longest = int(settings.max_position_embeddings)
    return min(longest, int(window)) if window else longest


def full_rope(settings: PreTrainedConfig) -> dict[str, Any]:
    """The settings of the rotary embeddings; of the layers with full attention, where others have their own."""
    rope: dict[str, Any] = settings.rope_parameters or {}
    full: dict[str, Any] = rope.get("full_attention", rope)
    return full


def add_settings(writer: GGUFWriter, settings: PreTrainedConfig) -> None:
    """Sizes and numbers that the model computes with."""
    heads, head_dim = settings.num_attention_heads, head_dim_of(settings)
    writer.add_block_count(settings.num_hidden_layers)
    writer.add_context_length(context_of(settings))
    writer.add_embedding_length(settings.hidden_size)
    writer.add_feed_forward_length(settings.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(getattr(settings, "num_key_value_heads", None) or heads)
    writer.add_layer_norm_rms_eps(settings.rms_norm_eps)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_vocab_size(settings.vocab_size)
    if ARCHITECTURES[settings.model_type] == "llama":
        writer.add_rope_dimension_count(head_dim)
    _add_rope(writer, settings)
    if settings.model_type in ("gemma2", "gemma3_text"):
        writer.add_sliding_window(settings.sliding_window)
        if cap := settings.attn_logit_softcapping:
            writer.add_attn_logit_softcapping(cap)
        if cap := settings.final_logit_softcapping:
            writer.add_final_logit_softcapping(cap)


def _add_rope(writer: GGUFWriter, settings: PreTrainedConfig) -> None:
    from gguf import RopeScalingType

    rope = full_rope(settings)
    writer.add_rope_freq_base(rope["rope_theta"])
    if local := (settings.rope_parameters or {}).get("sliding_attention"):
        writer.add_rope_freq_base_swa(local["rope_theta"])
    kind = rope.get("rope_type", "default")
    if kind == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if kind == "yarn":
        writer.add_rope_scaling_type(RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope.get("original_max_position_embeddings") or settings.max_position_embeddings)


def head_dim_of(settings: PreTrainedConfig) -> int:
    """Numbers a head."""
    own = getattr(settings, "head_dim", None)
    return int(own or settings.hidden_size // settings.num_attention_heads)


def names_of(settings: PreTrainedConfig) -> Callable[[str], str | None]:
    """transformers' tensor name → the name in a GGUF file; None for an output layer that is the embedding."""
    from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map

    architecture = next(arch for arch, name in MODEL_ARCH_NAMES.items() if name == ARCHITECTURES[settings.model_type])
    assert isinstance(architecture, MODEL_ARCH)
    names = get_tensor_name_map(architecture, settings.num_hidden_layers)
    tied = settings.tie_word_embeddings

    def named(name: str) -> str | None:
        if tied and name == "lm_head.weight":
            return None
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise RunFault("SG478", f"llama.cpp has no place for the tensor {name}", "leave out export.gguf", exit_code=WRONG)
        return found

    return named


def arranged(name: str, tensor: torch.Tensor, settings: PreTrainedConfig) -> torch.Tensor:
    """A tensor as llama.cpp wants it: Llama's rotary pairs side by side, Gemma's norms with the one that it adds."""
    architecture = ARCHITECTURES[settings.model_type]
    if architecture == "llama" and (heads := _rotary_heads(name, settings)):
        halves = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:])
        return halves.swapaxes(1, 2).reshape(tensor.shape)
    if architecture.startswith("gemma") and name.endswith("norm.weight"):
        return tensor.float() + 1
    return tensor


def _rotary_heads(name: str, settings: PreTrainedConfig) -> int | None:
    module = name.rpartition(".")[0]
    if module.endswith("self_attn.q_proj"):
        return int(settings.num_attention_heads)
    return int(settings.num_key_value_heads) if module.endswith("self_attn.k_proj") else None


def extra_tensors(settings: PreTrainedConfig) -> Iterator[tuple[str, torch.Tensor]]:
    """What llama.cpp reads as a tensor, and transformers computes: the factors of Llama 3's rotary embeddings."""
    rope = full_rope(settings)
    if rope.get("rope_type") != "llama3":
        return
    dimension, base = head_dim_of(settings), rope["rope_theta"]
    frequencies = 1.0 / (base ** (torch.arange(0, dimension, 2, dtype=torch.float32) / dimension))
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    length = rope["original_max_position_embeddings"]
    waves = 2 * math.pi / frequencies
    smooth = ((length / waves - low) / (high - low)).clamp(0, 1)  # 1 for short waves, which stay; 0 for long ones
    yield "rope_freqs.weight", 1 / ((1 - smooth) / factor + smooth)
