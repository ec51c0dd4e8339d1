"""Attention that computes each row by itself, for training on a CPU: rows lie in one line, without padding, packed or not.

What transformers has for a CPU either pads the rows of a batch, and then every layer computes the padding, or computes the square of the
whole line. Rows of about the same length are computed together here. It is known to transformers by the name `by_rows`; where there
is a mask, or a cache of keys, it is sdpa.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from runtime.training.attention import BY_ROWS, SHORT_ROW

LEAST_FULL = 0.75  # of a group's places: its shortest row has so many tokens of its longest one's

# N tokens of the line, P places they are laid out in, G rows of a group, L places of each
# H heads, K heads of keys, Q queries to a key's head, D features


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rows that are computed together, in G * L places. `future` is what is added to scores, float32 [L, L]; None where L is long."""

    rows: int
    length: int
    future: torch.Tensor | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The groups of a line, which have P places together. Which token stands where, int64 [P], and where each token stands, int64 [N]:
    behind a row's last token stands its first one again, which no token of the row attends to."""

    groups: tuple[Group, ...]
    places: torch.Tensor
    back: torch.Tensor


class _Picked(torch.autograd.Function):
    """States [S, …] in the order of the numbers `picked` [T]: [T, …]."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, picked: torch.Tensor, layout: Layout) -> torch.Tensor:
        ctx.layout = layout
        return states.index_select(0, picked)


class _Laid(_Picked):
    """Tokens [N, …] laid out into places [P, …]. What stands behind a row has no gradient, as nobody asks for its output."""

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return gradients[0].index_select(0, ctx.layout.back), None, None


class _Back(_Picked):
    """Places [P, …] as tokens [N, …] again."""

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = gradients
        laid = gradient.new_zeros(len(ctx.layout.places), *gradient.shape[1:])
        return laid.index_copy_(0, ctx.layout.back, gradient), None, None


def layout_of(position_ids: torch.Tensor) -> Layout:
    """The layout of a line [1, N], or of several of one length [B, N]: a row begins wherever positions begin with 0."""
    of_line = position_ids.shape[1]
    starts = [index for index, position in enumerate(position_ids.flatten().tolist()) if position == 0 or index % of_line == 0]
    ends = [*starts[1:], position_ids.numel()]
    rows = sorted(zip(starts, ends, strict=True), key=lambda row: row[0] - row[1])
    together: list[list[tuple[int, int]]] = []
    for start, end in rows:
        if not together or end - start < LEAST_FULL * (together[-1][0][1] - together[-1][0][0]):
            together.append([])
        together[-1].append((start, end))
    groups, places = [], list[torch.Tensor]()
    back = torch.empty(position_ids.numel(), dtype=torch.long)
    offsets = accumulate((len(group) * (group[0][1] - group[0][0]) for group in together), initial=0)
    for group, offset in zip(together, offsets, strict=False):
        length = group[0][1] - group[0][0]
        places_GL = torch.tensor([start for start, _ in group]).unsqueeze(1).repeat(1, length)
        for index, (start, end) in enumerate(group):
            places_GL[index, : end - start] = torch.arange(start, end)
            back[start:end] = torch.arange(end - start) + (offset + index * length)
        future = torch.full((length, length), -torch.inf).triu(1) if length <= SHORT_ROW else None
        groups.append(Group(rows=len(group), length=length, future=future))
        places.append(places_GL.flatten())
    return Layout(groups=tuple(groups), places=torch.cat(places), back=back)


class ByRows:
    """transformers' interface to it. A step's layers share a layout: it is made once."""

    def __init__(self) -> None:
        self._known: tuple[torch.Tensor, Layout] | None = None

    def __call__(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        *,
        scaling: float | None = None,
        dropout: float = 0.0,
        position_ids: torch.Tensor | None = None,
        **options: Any,
    ) -> tuple[torch.Tensor, None]:
        """query [B, H, N, D], key and value [B, K, N, D] → [B, N, H, D]."""
        is_whole = query.shape[2] == key.shape[2] and getattr(module, "is_causal", True) and options.get("is_causal") is not False
        if attention_mask is not None or position_ids is None or not is_whole:
            output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **options)
            return output, None
        if self._known is None or self._known[0] is not position_ids:
            self._known = position_ids, layout_of(position_ids.expand(query.shape[0], -1))
        _, layout = self._known
        sizes = [group.rows * group.length for group in layout.groups]
        laid = (_Laid.apply(states.transpose(1, 2).flatten(0, 1), layout.places, layout).split(sizes) for states in (query, key, value))
        parts = zip(layout.groups, *laid, strict=True)
        found = [_attend(group, query_PHD, key_PKD, value_PKD, scaling, dropout) for group, query_PHD, key_PKD, value_PKD in parts]
        output_NHD = _Back.apply(torch.cat(found), layout.back, layout)
        return output_NHD.view(query.shape[0], query.shape[2], query.shape[1], -1), None


def _attend(
    group: Group, query_PHD: torch.Tensor, key_PKD: torch.Tensor, value_PKD: torch.Tensor, scaling: float | None, dropout: float
) -> torch.Tensor:
    """The output in the group's places, P = G * L: [P, H, D]. What stands behind a row is no row's past."""
    rows, length, heads, of_keys, width = group.rows, group.length, query_PHD.shape[1], key_PKD.shape[1], query_PHD.shape[2]
    scaling = width**-0.5 if scaling is None else scaling
    query_GLHD, key_GLKD, value_GLKD = (states.view(rows, length, *states.shape[1:]) for states in (query_PHD, key_PKD, value_PKD))
    key_GKLD, value_GKLD = key_GLKD.transpose(1, 2), value_GLKD.transpose(1, 2)
    if group.future is None:
        options = {"dropout_p": dropout, "is_causal": True, "scale": scaling, "enable_gqa": heads != of_keys}
        output_GHLD = functional.scaled_dot_product_attention(query_GLHD.transpose(1, 2), key_GKLD, value_GKLD, **options)
        return output_GHLD.transpose(1, 2).flatten(0, 1)
    # the queries to a key's head lie one behind another, so that keys need no copies
    query_GKQLD = query_GLHD.view(rows, length, of_keys, -1, width).permute(0, 2, 3, 1, 4)
    scores_GKQLL = (query_GKQLD.flatten(2, 3) @ key_GKLD.transpose(2, 3)).view(rows, of_keys, -1, length, length)
    weights_GKQLL = functional.softmax(scores_GKQLL.float().mul_(scaling).add_(group.future), dim=-1).to(query_PHD.dtype)
    weights_GKQLL = functional.dropout(weights_GKQLL, p=dropout, training=dropout > 0)
    output_GKQLD = (weights_GKQLL.flatten(2, 3) @ value_GKLD).view(rows, of_keys, -1, length, value_PKD.shape[2])
    return output_GKQLD.permute(0, 3, 1, 2, 4).flatten(2, 3).flatten(0, 1)


def _mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    attention_mask: torch.Tensor | None = None,
    local_size: int | None = None,
    **options: Any,
) -> torch.Tensor | None:
    """No mask for rows in a line, whose positions tell them apart; where a window is shorter than the line, or with padding, sdpa's."""
    if q_length == kv_length and attention_mask is None and (local_size is None or local_size >= kv_length):
        return None
    mask: torch.Tensor | None = sdpa_mask(batch_size, q_length, kv_length, attention_mask=attention_mask, local_size=local_size, **options)
    return mask


def register() -> None:
    """Makes it known to transformers by its name."""
    AttentionInterface.register(BY_ROWS, ByRows())
    AttentionMaskInterface.register(BY_ROWS, _mask)
