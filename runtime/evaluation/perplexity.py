"""How surprised a model is by rows: over the tokens that training would learn from, masked, weighted and cut as training does it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from conversations.row import Conversation
from runtime.config import Config
from runtime.data.dataset import collate
from runtime.data.encode import Encoder, Tokenized
from runtime.data.lengths import policy_of
from runtime.data.parts import Part
from runtime.faults import WRONG, RunFault
from runtime.models.model import load_tokenizer
from runtime.tokens.text_format import row_format
from runtime.tokens.vocabulary import vocabulary_of
from runtime.training.loss import OutputLoss, total_weight
from runtime.vision.looking import Eyes

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Tokenized rows; `left_out` of them by why, and how many were cut or parted to data.max_length."""

    rows: list[Row] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    shortened: int = 0

    @property
    def examples(self) -> int:
        """How many examples were scored."""
        return len(self.rows)

    def told(self) -> Iterator[str]:
        """What has to be said of them."""
        for why, number in self.left_out.items():
            yield f"{number:,} {'row is' if number == 1 else 'rows are'} left out of the perplexity: {why}"
        if self.shortened:
            yield f"{self.shortened:,} {'row is' if self.shortened == 1 else 'rows are'} cut to data.max_length for the perplexity"


def scored_rows(config: Config, rows: Sequence[Conversation]) -> Scored:
    """The rows as training would have them. Raises RunFault where none is left."""
    form = row_format(vocabulary_of(load_tokenizer(config.model, config.template)), config, system=config.data.system)
    part = Part(source=0, name="eval", rows=list(rows), shape=None)
    found = Encoder(form, policy_of(config), None, prompts=False)(part)
    told = found.told
    left_out = {message: fault.rows for (_, message, _), fault in told.faults.items()}
    examples = list(_examples(found))
    if too_long := len(rows) - told.bad - sum(left_out.values()) - int((found.examples > 0).sum()):
        left_out[f"more than data.max_length, {config.data.max_length:,} tokens"] = too_long
    if not examples:
        reasons = "; ".join(left_out) or "there are none"
        raise RunFault(
            "SG698", f"no row of eval.sources is left for the perplexity: {reasons}", "metrics: {perplexity: null}", exit_code=WRONG
        )
    return Scored(rows=examples, left_out=left_out, shortened=len(told.truncated | told.split))


def _examples(found: Tokenized) -> Iterator[Row]:
    ends, shown = np.cumsum(found.lengths), np.cumsum(found.seen)
    for start, end, first, last in zip(ends - found.lengths, ends, shown - found.seen, shown, strict=True):
        row: Row = {"input_ids": found.input_ids[start:end], "trained": found.trained[start:end], "images": found.pictures[first:last]}
        yield row if found.weights is None else {**row, "weights": found.weights[start:end]}


@torch.inference_mode()
def perplexity(
    model: Any,
    scored: Scored,
    *,
    batch_size: int,
    pad_id: int,
    passed: Callable[[int], None] = lambda _rows: None,
    eyes: Eyes | None = None,
) -> float:
    """The exponential of the mean loss of a trained token. `passed` is told of every batch how many rows it had; `eyes` look at the
    rows' images."""
    loss = OutputLoss(model)
    summed = weight = 0.0
    try:
        for first in range(0, scored.examples, batch_size):
            rows = scored.rows[first : first + batch_size]
            batch = {name: tensor.to(model.device) for name, tensor in collate(rows, pad_id=pad_id, look=eyes).items()}
            summed += float(loss(model, batch).summed)
            weight += float(total_weight(batch))
            passed(len(rows))
    finally:
        loss.close()
    mean = summed / weight
    return math.exp(mean) if mean < 700 else math.inf
