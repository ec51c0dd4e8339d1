"""The sizes of a decoder that its memory follows from."""

from __future__ import annotations

import re
from dataclasses import dataclass

from specgen.facts.model import ModelFacts

# what reads what: the modules of a layer by the last part of their names, and the hidden state that goes in
READS = {
    "q_proj": "attention",
    "k_proj": "attention",
    "v_proj": "attention",
    "qkv_proj": "attention",
    "o_proj": "heads",
    "gate_proj": "mlp",
    "up_proj": "mlp",
    "gate_up_proj": "mlp",
    "down_proj": "product",
}
NORMS = {"gemma2": 4, "gemma3_text": 4}  # a layer's; two elsewhere
HEAD_NORMS = ("qwen3", "gemma3_text")  # queries and keys are normalised, too
KNOWN = ("llama", "mistral", "qwen2", "qwen3", "phi3", "internlm3", "gemma", "gemma2", "gemma3_text")
LAYER = re.compile(r"\.layers\.(\d+)\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """A linear layer: where it stands, what it reads, its sizes."""

    name: str
    reads: str
    inputs: int
    outputs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """`linear` is of one layer: all are alike. `heads_size` and `keys_size` are all heads together; `norms` counts a layer's.

    `softcaps` says whether attention scores and logits go through a tanh.
    """

    hidden: int
    intermediate: int
    layers: int
    heads: int
    heads_size: int
    keys_size: int
    vocabulary: int
    norms: int
    head_norms: bool
    softcaps: bool
    parameters: int
    linear: tuple[Linear, ...]

    @property
    def embedding(self) -> int:
        """Parameters of the embedding; an output layer of its own has as many."""
        return self.vocabulary * self.hidden

    @property
    def linear_parameters(self) -> int:
        """Weights of all linear layers but the output."""
        return self.layers * sum(module.inputs * module.outputs for module in self.linear)


def shape_of(facts: ModelFacts) -> Shape | None:
    """The sizes, or None where the model's type is not known or its config.json leaves one out."""
    config = facts.config
    wanted = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    sizes = [config.get(key) for key in wanted]
    linear = _layer(facts)
    if facts.model_type not in KNOWN or linear is None or not all(isinstance(size, int) and size > 0 for size in sizes):
        return None
    hidden, intermediate, layers, heads = (int(size or 0) for size in sizes)
    head = config.get("head_dim") or hidden // heads
    keys = (config.get("num_key_value_heads") or heads) * head
    return Shape(
        hidden=hidden,
        intermediate=intermediate,
        layers=layers,
        heads=heads,
        heads_size=heads * head,
        keys_size=keys,
        vocabulary=_vocabulary(facts),
        norms=NORMS.get(facts.model_type, 2),
        head_norms=facts.model_type in HEAD_NORMS,
        softcaps=facts.model_type == "gemma2",
        parameters=facts.parameters,
        linear=linear,
    )


def _layer(facts: ModelFacts) -> tuple[Linear, ...] | None:
    """The linear modules of the first layer; None where one has a name that says nothing."""
    found = []
    for name, (inputs, outputs) in facts.linear.items():
        layer = LAYER.search(name)
        reads = READS.get(name.rpartition(".")[2])
        if layer is None or reads is None:
            return None
        if layer[1] == "0":
            found.append(Linear(name=name, reads=reads, inputs=inputs, outputs=outputs))
    return tuple(found) or None


def _vocabulary(facts: ModelFacts) -> int:
    """The rows of the embedding: as stored, which may be more than the tokenizer has words."""
    stored = facts.embedding
    return stored[0] if stored else int(facts.config.get("vocab_size") or 0)
