"""Proof that two forms of a model are the same model: their logits differ by no more than rounding explains."""

from __future__ import annotations

from typing import Any

import torch

from conversations.row import Message
from runtime.config import Config
from runtime.faults import RunFault
from runtime.tokens.text_format import RowFormat
from runtime.vision.form import asking
from runtime.vision.looking import chequered, eyes_of

# Float32 arithmetic in another order: the distance that counts as equal where the dtype itself adds no rounding.
FLOAT32_FLOOR = 1e-4
# Rounding each weight once and rounding in every operation are noise of the same size, but not the same noise: measured, the
# first is 0.5 to 0.9 of the second (LOG.md).
MARGIN = 2


MOST_PROBES = 8
SIDE = 64  # pixels of the picture that a model is shown where the smoke test shows none

Probe = dict[str, torch.Tensor]  # what a model is called with: input_ids int64 [1, T], and maybe pixel_values float32 [I, 3, H, W]


def probe_ids(config: Config, form: RowFormat) -> list[list[int]]:
    """Prompts to compare models on: those of the smoke test and the previews, or a plain one."""
    return [form.prompt_ids(form.with_system([message])) for message in _asked(config)]


def probes_of(config: Config, form: RowFormat, device: torch.device) -> list[Probe]:
    """The same as a model is called with them. A model that sees is shown a picture, too."""
    messages = _asked(config)
    eyes = eyes_of(config)
    if eyes is None:
        return [{"input_ids": torch.tensor([ids], device=device)} for ids in probe_ids(config, form)]
    if not any("images" in message for message in messages):
        messages.append(asking(messages[0]["content"], [chequered(SIDE)]))
    probes = []
    for message in messages:
        probe = {"input_ids": torch.tensor([form.prompt_ids(form.with_system([message]))], device=device)}
        probes.append({**probe, "pixel_values": eyes.at(message["images"]).to(device)} if "images" in message else probe)
    return probes


def _asked(config: Config) -> list[Message]:
    asked: list[Message] = [asking(item.user, [item.image] if item.image else []) for item in config.smoke]
    asked += [{"role": "user", "content": prompt} for prompt in (config.train.preview.prompts if config.train.preview else ())]
    distinct = {str(message): message for message in asked}
    return list(distinct.values())[:MOST_PROBES] or [{"role": "user", "content": "Hello. Who are you?"}]


@torch.inference_mode()
def logits(model: Any, probe: Probe) -> torch.Tensor:
    """Logits of every position, float32 [T, V] on the CPU."""
    output: torch.Tensor = model(**probe).logits
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
