"""Model types whose config.json alone tells every weight: tensors by name and shape, as transformers' own classes have them.

A model type that is not here is unknown, never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Shape = tuple[int, ...]
Tensors = dict[str, Shape]

MOST_LAYERS = 10_000
INTERNLM2 = "internlm2"


def stored_tensors(config: Mapping[str, Any]) -> Tensors | None:
    """Every tensor of the model that a config.json describes; None for a model type that is not known.

    Shapes are as PyTorch has them, (out, in). An output layer that is tied to the embedding is not stored.
    Raises ValueError where a size is missing or is no positive whole number.
    """
    kind = loaded_as(config)
    if kind not in _LAYERS:
        return None
    sizes, layer = _Sizes(config, kind), _LAYERS[kind]
    if (layers := sizes.number("num_hidden_layers")) > MOST_LAYERS:
        raise ValueError(f"its config.json has {layers:,} layers; at most {MOST_LAYERS:,} are believed")
    embedding = (sizes.number("vocab_size"), sizes.hidden)
    tensors: Tensors = {"model.embed_tokens.weight": embedding}
    for index in range(layers):
        tensors.update({f"model.layers.{index}.{name}": shape for name, shape in layer(sizes).items()})
    tensors["model.norm.weight"] = (sizes.hidden,)
    if not config.get("tie_word_embeddings", kind.startswith("gemma")):
        tensors["lm_head.weight"] = embedding
    return tensors


def loaded_as(config: Mapping[str, Any]) -> str:
    """The model type that the runtime loads: InternLM2 is a Llama in another layout. Raises ValueError where it is not."""
    kind = config.get("model_type")
    if kind != INTERNLM2:
        return str(kind)
    if config.get("bias"):
        raise ValueError("its config.json has bias true; InternLM2 is converted into a Llama without biases only")
    return "llama"


# where transformers has a number of its own for a key that config.json leaves out, that key has to be there
_OWN_NUMBERS = {
    "gemma": ("num_key_value_heads", "head_dim"),
    "gemma2": ("num_key_value_heads", "head_dim"),
    "gemma3_text": ("num_key_value_heads", "head_dim"),
    "mistral": ("num_key_value_heads",),
    "qwen2": ("num_key_value_heads",),
    "qwen3": ("num_key_value_heads", "head_dim"),
}


class _Sizes:
    """The sizes of a layer; heads that config.json leaves out follow from the others, as in transformers."""

    def __init__(self, config: Mapping[str, Any], kind: str) -> None:
        self.config, self.kind = config, kind
        self.hidden, self.intermediate = self.number("hidden_size"), self.number("intermediate_size")
        self.heads = self.number("num_attention_heads")
        self.kv_heads = self.number("num_key_value_heads") if self.has("num_key_value_heads") else self.heads
        self.head_dim = self.number("head_dim") if self.has("head_dim") else self.hidden // self.heads
        self.query, self.key = self.heads * self.head_dim, self.kv_heads * self.head_dim

    def has(self, key: str) -> bool:
        return self.config.get(key) is not None or key in _OWN_NUMBERS.get(self.kind, ())

    def number(self, key: str) -> int:
        value = self.config.get(key)
        if value is None:
            raise ValueError(f"its config.json has no {key}")
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"its config.json has {key} {value!r}; it has to be a whole number from 1 on")
        return value

    def flag(self, key: str) -> bool:
        return bool(self.config.get(key, False))


def _linear(name: str, inputs: int, outputs: int, *, bias: bool = False) -> Tensors:
    weight: Tensors = {f"{name}.weight": (outputs, inputs)}
    return {**weight, f"{name}.bias": (outputs,)} if bias else weight


def _norms(sizes: _Sizes, *names: str) -> Tensors:
    return {f"{name}.weight": (sizes.hidden,) for name in names}


def _attention(sizes: _Sizes, *, inner_bias: bool, outer_bias: bool) -> Tensors:
    return {
        **_linear("self_attn.q_proj", sizes.hidden, sizes.query, bias=inner_bias),
        **_linear("self_attn.k_proj", sizes.hidden, sizes.key, bias=inner_bias),
        **_linear("self_attn.v_proj", sizes.hidden, sizes.key, bias=inner_bias),
        **_linear("self_attn.o_proj", sizes.query, sizes.hidden, bias=outer_bias),
    }


def _feed_forward(sizes: _Sizes, *, bias: bool) -> Tensors:
    return {
        **_linear("mlp.gate_proj", sizes.hidden, sizes.intermediate, bias=bias),
        **_linear("mlp.up_proj", sizes.hidden, sizes.intermediate, bias=bias),
        **_linear("mlp.down_proj", sizes.intermediate, sizes.hidden, bias=bias),
    }


def _head_norms(sizes: _Sizes) -> Tensors:
    return {"self_attn.q_norm.weight": (sizes.head_dim,), "self_attn.k_norm.weight": (sizes.head_dim,)}


def _usual(sizes: _Sizes, *, inner_bias: bool, outer_bias: bool, mlp_bias: bool = False) -> Tensors:
    return {
        **_attention(sizes, inner_bias=inner_bias, outer_bias=outer_bias),
        **_feed_forward(sizes, bias=mlp_bias),
        **_norms(sizes, "input_layernorm", "post_attention_layernorm"),
    }


def _llama(sizes: _Sizes) -> Tensors:
    bias = sizes.flag("attention_bias")
    return _usual(sizes, inner_bias=bias, outer_bias=bias, mlp_bias=sizes.flag("mlp_bias"))


def _mistral(sizes: _Sizes) -> Tensors:
    return _usual(sizes, inner_bias=False, outer_bias=False)


def _qwen2(sizes: _Sizes) -> Tensors:
    return _usual(sizes, inner_bias=True, outer_bias=False)


def _gemma(sizes: _Sizes) -> Tensors:
    bias = sizes.flag("attention_bias")
    return _usual(sizes, inner_bias=bias, outer_bias=bias)


def _qwen3(sizes: _Sizes) -> Tensors:
    return {**_gemma(sizes), **_head_norms(sizes)}


def _gemma2(sizes: _Sizes) -> Tensors:
    return {**_gemma(sizes), **_norms(sizes, "pre_feedforward_layernorm", "post_feedforward_layernorm")}


def _gemma3(sizes: _Sizes) -> Tensors:
    return {**_gemma2(sizes), **_head_norms(sizes)}


def _phi3(sizes: _Sizes) -> Tensors:
    return {
        **_linear("self_attn.qkv_proj", sizes.hidden, sizes.query + 2 * sizes.key),
        **_linear("self_attn.o_proj", sizes.query, sizes.hidden),
        **_linear("mlp.gate_up_proj", sizes.hidden, 2 * sizes.intermediate),
        **_linear("mlp.down_proj", sizes.intermediate, sizes.hidden),
        **_norms(sizes, "input_layernorm", "post_attention_layernorm"),
    }


def _internlm3(sizes: _Sizes) -> Tensors:
    inner, outer = sizes.flag("qkv_bias"), sizes.flag("bias")
    if inner != outer:
        said = f"qkv_bias {str(inner).lower()} and bias {str(outer).lower()}"
        raise ValueError(f"its config.json has {said}; transformers' Llama, which InternLM3 is there, has both or neither")
    return _usual(sizes, inner_bias=inner, outer_bias=outer, mlp_bias=outer)


_LAYERS: dict[str, Callable[[_Sizes], Tensors]] = {
    "gemma": _gemma,
    "gemma2": _gemma2,
    "gemma3_text": _gemma3,
    "internlm3": _internlm3,
    "llama": _llama,
    "mistral": _mistral,
    "phi3": _phi3,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
}
