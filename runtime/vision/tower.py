"""The vision tower of a CLIP or SigLIP model: its weights, and adapters for it by whichever name they call it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from runtime.faults import WRONG, RunFault
from runtime.vision.sizes import tower_in
from runtime.weights.adapters import Adapter

TOWER = "vision_model."  # transformers 4 and published files have it in front of the tower's names, transformers 5 has not
OF_TEXTS = ("text_model.", "text_projection.", "visual_projection.")
SCALES = ("logit_scale", "logit_bias")


def settings_of(base: Path) -> dict[str, Any]:
    """The tower's config, for specgen merge --is-clip. Raises RunFault where the folder is no CLIP model."""
    settings: dict[str, Any] = json.loads((base / "config.json").read_text(encoding="utf-8"))
    tower = tower_in(settings)
    if tower is None:
        message = f"--is-clip: {base} is a model of type {settings.get('model_type')}, no CLIP model"
        raise RunFault("SG469", message, "leave out --is-clip for a chat model", exit_code=WRONG)
    return tower


def is_of_tower(name: str) -> bool:
    """Whether a tensor of a CLIP or SigLIP model belongs to the vision tower."""
    return not name.startswith(OF_TEXTS) and name not in SCALES


def fitted(adapter: Adapter, names: Iterable[str]) -> Adapter:
    """The adapter with the names that the base's files have."""
    prefixed = any(name.startswith(TOWER) for name in names)

    def renamed(name: str) -> str:
        own = name.removeprefix(TOWER)
        return TOWER + own if prefixed else own

    modules = {renamed(name): parts for name, parts in adapter.modules.items()}
    patterns = {
        pattern: {key.removeprefix(TOWER): value for key, value in (adapter.settings.get(pattern) or {}).items()}
        for pattern in ("rank_pattern", "alpha_pattern")
    }
    whole = {renamed(name): tensor for name, tensor in adapter.whole.items()}
    return replace(adapter, modules=modules, whole=whole, settings={**adapter.settings, **patterns})
