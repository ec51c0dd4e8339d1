"""InternLM2's weights by a Llama's names, and back: the same numbers, cut in another way.

# H heads, K key/value heads, G = H / K, d size of a head, D model, F feed-forward, V vocabulary
attention.wqkv.weight [(H + 2K) d, D] is [K, G + 2, d, D]: for each key/value head first the G query heads that share it, then the
key head, then the value head. Both models turn the two halves of a head against each other (rotary embedding), so no row moves
inside a head. Source: InternLM's tools/convert2llama.py at fe4c2eb and modeling_internlm2.py of InternEvo at c628a8c.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from runtime.internlm2.settings import Sizes

Shapes = dict[str, list[int]]

# the end of a module's path in InternLM2 → in a Llama
NAMES = {
    "tok_embeddings": "embed_tokens",
    "output": "lm_head",
    "norm": "norm",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w3": "mlp.up_proj",
    "feed_forward.w2": "mlp.down_proj",
}
BACK = {llama: own for own, llama in NAMES.items()}
WQKV = "attention.wqkv"
PARTS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")


def renamed(path: str, names: Mapping[str, str]) -> str | None:
    """A module's path with its end renamed: that of a whole part, never of a part's part. None where no name fits."""
    found = next((end for end in names if path == end or path.endswith(f".{end}")), None)
    return None if found is None else path.removesuffix(found) + names[found]


def parts_of(path: str) -> tuple[str, str, str] | None:
    """The three modules that a merged wqkv is cut into; None for another module."""
    if path != WQKV and not path.endswith(f".{WQKV}"):
        return None
    stem = path.removesuffix(WQKV)
    return stem + PARTS[0], stem + PARTS[1], stem + PARTS[2]


def split(rows: torch.Tensor, sizes: Sizes) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """[(H + 2K) d, …] → queries [H d, …], keys [K d, …], values [K d, …]: of a weight, and of all that has a row for each output."""
    grouped = rows.view(sizes.kv_heads, sizes.group + 2, sizes.head, *rows.shape[1:])
    return grouped[:, :-2].flatten(0, 2), grouped[:, -2].flatten(0, 1), grouped[:, -1].flatten(0, 1)


def joined(parts: Sequence[torch.Tensor], sizes: Sizes) -> torch.Tensor:
    """The inverse of split: queries, keys and values in one."""
    grouped = [part.view(sizes.kv_heads, -1, sizes.head, *part.shape[1:]) for part in parts]
    return torch.cat(grouped, dim=1).flatten(0, 2)


def own_shapes(sizes: Sizes) -> Shapes:
    """Every tensor of an InternLM2 model."""
    hidden, heads = sizes.hidden, sizes.heads * sizes.head
    layer = {
        "attention_norm": [hidden],
        "ffn_norm": [hidden],
        WQKV: [heads + 2 * sizes.kv_heads * sizes.head, hidden],
        "attention.wo": [hidden, heads],
        "feed_forward.w1": [sizes.intermediate, hidden],
        "feed_forward.w2": [hidden, sizes.intermediate],
        "feed_forward.w3": [sizes.intermediate, hidden],
    }
    found = {f"model.layers.{index}.{name}.weight": shape for index in range(sizes.layers) for name, shape in layer.items()}
    found |= {"model.tok_embeddings.weight": [sizes.vocabulary, hidden], "model.norm.weight": [hidden]}
    return found if sizes.tied else {**found, "output.weight": [sizes.vocabulary, hidden]}


def pieces(sizes: Sizes) -> dict[str, list[str]]:
    """InternLM2's name of each tensor → a Llama's: one, or the three that wqkv is cut into."""
    found: dict[str, list[str]] = {}
    for name in own_shapes(sizes):
        path = name.removesuffix(".weight")
        found[name] = [f"{other}.weight" for other in parts_of(path) or (renamed(path, NAMES),)]
    return found


def cut(tensor: torch.Tensor, sizes: Sizes, number: int) -> tuple[torch.Tensor, ...]:
    """A tensor in as many pieces as it has names in a Llama."""
    return (tensor,) if number == 1 else split(tensor, sizes)


def llama_shapes(sizes: Sizes) -> Shapes:
    """Every tensor of the same model as a Llama."""
    shapes, found = own_shapes(sizes), Shapes()
    for name, others in pieces(sizes).items():
        whole = torch.empty(shapes[name], device="meta")
        found |= {other: list(piece.shape) for other, piece in zip(others, cut(whole, sizes, len(others)), strict=True)}
    return found
