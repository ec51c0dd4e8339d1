"""The vision tower of a CLIP model: its weights, its config, and adapters for it by whichever name they call it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from runtime.adapters import Adapter
from runtime.faults import WRONG, RunFault

TOWER = "vision_model."  # transformers 4 and published files have it in front of the tower's names, transformers 5 has not
WHOLE, ALONE = "clip", "clip_vision_model"


def settings_of(base: Path) -> dict[str, Any]:
    """The tower's config. Raises RunFault where the folder is no CLIP model."""
    settings: dict[str, Any] = json.loads((base / "config.json").read_text(encoding="utf-8"))
    kind = settings.get("model_type")
    if kind not in (WHOLE, ALONE):
        message = f"--is-clip: {base} is a model of type {kind}, no CLIP model"
        raise RunFault("SG469", message, "leave out --is-clip for a chat model", exit_code=WRONG)
    if kind == WHOLE:
        shared: dict[str, Any] = {name: settings[name] for name in ("dtype", "torch_dtype") if name in settings}
        settings = {**shared, **settings["vision_config"]}
    return {**settings, "model_type": ALONE, "architectures": ["CLIPVisionModel"]}


def is_of_tower(name: str) -> bool:
    """Whether a tensor of a CLIP model belongs to the vision tower."""
    return not name.startswith(("text_model.", "text_projection.", "visual_projection.")) and name != "logit_scale"


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
