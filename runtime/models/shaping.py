"""What a model makes of its output layer's numbers before they are logits: nothing, a factor, a cap; told by its config, shown on it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

# transformers' names (5.23): Cohere, Falcon-H1 and Muse multiply, Granite divides, HyperCLOVA X multiplies by what has Granite's name
FACTORS = ("logit_scale", "logits_scaling", "lm_head_multiplier", "output_multiplier")
CAP = "final_logit_softcapping"  # Gemma 2, 3n, 4
PROBES, LARGEST = 4, 100.0
# The most that may differ, as a share of the largest logit: rounding, once the numbers are large enough for a cap to show
FLOAT32_MOST, MOST = 1e-5, 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaping:
    """logits = cap · tanh(scale · output / cap), or scale · output without a cap, in the output's own dtype."""

    scale: float = 1.0
    cap: float | None = None

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        """The outputs of the layer [..., V] as the model returns them."""
        scaled = output if self.scale == 1 else output * self.scale
        return scaled if self.cap is None else torch.tanh(scaled / self.cap) * self.cap


def candidates(config: Any) -> Iterator[Shaping]:
    """What a model with this config (transformers' PreTrainedConfig) may do, the likeliest first."""
    text = config.get_text_config()
    given = [value for name in FACTORS if isinstance(value := getattr(text, name, None), int | float) and value > 0]
    cap = getattr(text, CAP, None)
    factors = [*itertools.chain.from_iterable((value, 1 / value) for value in given), 1.0]
    for one, scale in itertools.product([cap, None] if cap else [None], dict.fromkeys(factors)):
        yield Shaping(scale=scale, cap=one)


@torch.no_grad()
def probes(output_layer: Any, hidden_BTD: torch.Tensor) -> torch.Tensor:
    """Rows [1, PROBES, D] that the layer gives large numbers for, up to LARGEST: the same in every process."""
    chance = torch.Generator().manual_seed(0)
    rows_1RD = torch.randn(1, PROBES, hidden_BTD.shape[-1], generator=chance).to(hidden_BTD)
    largest = output_layer.forward(rows_1RD).abs().max().clamp(min=1e-4)
    sizes_R1 = torch.linspace(0.25, 1.0, PROBES).unsqueeze(1).to(rows_1RD)
    return rows_1RD * sizes_R1 * (LARGEST / largest).to(rows_1RD.dtype)


def fitting(config: Any, output: torch.Tensor, logits: torch.Tensor) -> Shaping | None:
    """The candidate that makes these logits of this output of the layer; None where none does."""
    if output.shape != logits.shape:
        return None
    differences = {shaping: (shaping(output).float() - logits.float()).abs().max() for shaping in candidates(config)}
    best = min(differences, key=lambda shaping: float(differences[shaping]))
    most = FLOAT32_MOST if output.dtype == torch.float32 else MOST
    return best if float(differences[best]) <= most * float(logits.abs().max()) else None
