"""Packed rows do not see each other: shown on the very model that is trained, before its first step.

Most of transformers' models (5.23) see where positions start again; OPT, Falcon, BLOOM, MPT, gpt-oss, and all that carry a
state along (Mamba, Qwen3-Next, LFM2, RecurrentGemma) do not, and say nothing (measured on small random ones).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from runtime.faults import WRONG, RunFault

FIRST, SECOND = 20, 12  # tokens of the two rows
# The most that may differ. Measured in float32: 2e-6 apart, 0.3 where rows see each other; in bfloat16 0.015, for rounding.
FLOAT32_MOST, MOST = 1e-3, 0.1


def prove_apart(model: torch.nn.Module, attention: str) -> float:
    """How much the model's answers to a packed row differ from those to it alone, as a share of their spread.

    `model` may be wrapped (DistributedDataParallel, DeepSpeed); every process calls this. Raises RunFault where rows see each other.
    """
    found = _measured(model)
    if not found <= _most(model):
        message = (
            f"with model.attention: {attention} this model lets packed rows see each other: its answers to a packed row differ"
            f" from those to it alone by {found:.0%} of their spread"
        )
        hint = "write data.packing: false; train.group_by_length: true leaves little padding, too"
        raise RunFault("SG494", message, hint, exit_code=WRONG)
    return found


def is_kept(model: torch.nn.Module) -> bool:
    """Whether rows in a line stay apart."""
    return _measured(model) <= _most(model)


def _measured(model: torch.nn.Module) -> float:
    """The difference, without dropout and without gradients."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), _each_token_for_itself(model):
            return difference(model)
    finally:
        model.train(was_training)


def _most(model: torch.nn.Module) -> float:
    """What rounding alone makes of it at most."""
    return FLOAT32_MOST if all(weight.dtype == torch.float32 for weight in model.parameters()) else MOST


def difference(model: torch.nn.Module) -> float:
    """The difference of logits of a row behind another one in a pack and alone, over the standard deviation of the latter: root
    mean squares over the vocabulary, the mean over the row's tokens."""
    device = next(model.parameters()).device
    vocabulary = _embeddings(model).num_embeddings
    chance = torch.Generator().manual_seed(0)
    ids_1T = torch.randint(vocabulary, (1, FIRST + SECOND), generator=chance).to(device)
    places_1T = torch.cat([torch.arange(FIRST), torch.arange(SECOND)]).unsqueeze(0).to(device)
    second_1T = ids_1T[:, FIRST:]
    packed_TV = model(input_ids=ids_1T, position_ids=places_1T, use_cache=False).logits[0, FIRST:].float()
    alone_TV = model(input_ids=second_1T, attention_mask=torch.ones_like(second_1T), use_cache=False).logits[0].float()
    spread_T = alone_TV.std(dim=-1, correction=0)
    differing_T = (packed_TV - alone_TV).square().mean(dim=-1).sqrt()
    return float((differing_T / spread_T.clamp(min=torch.finfo(torch.float32).tiny)).mean())


@contextlib.contextmanager
def _each_token_for_itself(model: torch.nn.Module) -> Iterator[None]:
    """Within this, 8-bit layers scale each token by itself. LLM.int8 computes a column in 16 bits where any token of the batch has an
    outlier in it: a row's numbers depend on its neighbours then, apart as they are (measured: by 18 % of their spread)."""
    states = [module.state for module in model.modules() if hasattr(getattr(module, "state", None), "threshold")]
    thresholds = [state.threshold for state in states]
    try:
        for state in states:
            state.threshold = 0.0
        yield
    finally:
        for state, threshold in zip(states, thresholds, strict=True):
            state.threshold = threshold


def _embeddings(model: Any) -> torch.nn.Embedding:
    while not hasattr(model, "get_input_embeddings"):
        model = model.module
    embeddings: torch.nn.Embedding = model.get_input_embeddings()
    return embeddings
