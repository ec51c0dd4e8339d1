"""Proof that two forms of a model are the same model: their logits differ by no more than rounding explains."""

from __future__ import annotations

from typing import Any

import torch

from runtime.config import Config
from runtime.faults import RunFault
from runtime.text_format import RowFormat

# Float32 arithmetic in another order: the distance that counts as equal where the dtype itself adds no rounding.
FLOAT32_FLOOR = 1e-4
# Rounding each weight once and rounding in every operation are noise of the same size, but not the same noise: measured, the
# first is 0.5 to 0.9 of the second (LOG.md).
MARGIN = 2


def probe_ids(config: Config, form: RowFormat) -> list[list[int]]:
    """Prompts to compare models on: those of the smoke test and the previews, or a plain one."""
    asked = [item.user for item in config.smoke] + list(config.train.preview.prompts if config.train.preview else ())
    prompts = list(dict.fromkeys(asked))[:8] or ["Hello. Who are you?"]
    return [form.prompt_ids(form.with_system([{"role": "user", "content": prompt}])) for prompt in prompts]


@torch.inference_mode()
def logits(model: Any, input_ids_1T: torch.Tensor) -> torch.Tensor:
    """Logits of every position, float32 [T, V] on the CPU."""
    output: torch.Tensor = model(input_ids=input_ids_1T).logits
    return output[0].float().cpu()


def distance(found_TV: torch.Tensor, wanted_TV: torch.Tensor) -> float:
    """Root mean square of the difference, relative to the spread of the wanted logits; 0 is equal."""
    spread = (wanted_TV - wanted_TV.mean(dim=-1, keepdim=True)).square().mean().sqrt()
    return float((found_TV - wanted_TV).square().mean().sqrt() / spread)


def farthest(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> float:
    """The largest distance among the probes."""
    return max(distance(one, other) for one, other in zip(found, wanted, strict=True))


def limit(rounded: list[torch.Tensor], exact: list[torch.Tensor]) -> float:
    """How far off a model may be whose weights are rounded: twice what computing in their dtype does to this very model."""
    return max(FLOAT32_FLOOR, MARGIN * farthest(rounded, exact))


def require_equal(difference: float, most: float, *, of: str, hint: str) -> None:
    """Raises RunFault where the exported model is another than `of`."""
    if not difference <= most:
        raise RunFault("SG451", f"the {of} by {difference:.3g}; rounding explains {most:.3g}", hint)
