"""The licence of a base model, as far as its own files tell: a card, config.json, or the head of a GGUF file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runtime.config import HubBase, LocalBase, PackageBase
from runtime.exports.gguf_head import general_texts
from runtime.faults import RunFault

LONGEST = 80  # characters; what is longer is the licence's own text


def licence_of(base: PackageBase | HubBase | LocalBase) -> str | None:
    """Its name as the base gives it, for example apache-2.0; None where nothing at hand says it."""
    from runtime.models.base import locate

    try:
        path = locate(base, weights=False)
    except RunFault:
        return None
    if path.is_file():
        return _name(general_texts(path).get("general.license"))
    return _name(_front(path / "README.md").get("license")) or _name(_settings(path / "config.json").get("license"))


def _front(card: Path) -> dict[str, Any]:
    """The YAML in front of a card."""
    import yaml

    try:
        before, mark, rest = card.read_text(encoding="utf-8").partition("---\n")
        content = yaml.safe_load(rest.partition("\n---")[0]) if mark and not before.strip() else {}
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _settings(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _name(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= LONGEST and "\n" not in value else None
