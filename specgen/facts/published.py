"""What well-known models on the hub say in their config.json, as far as weights go: the compiler knows them offline.

One file a repository under published/, OWNER--NAME.json; vision towers under published/towers/. Their parameter counts are the published
ones (tests).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "published"
TOWERS = FOLDER / "towers"


def published_config(repo: str) -> dict[str, Any] | None:
    """The architecture keys of a repository's config.json, or None where it is not among them."""
    return _config(FOLDER, repo)


def published_tower(repo: str) -> dict[str, Any] | None:
    """The same of a vision tower."""
    return _config(TOWERS, repo)


def _config(folder: Path, repo: str) -> dict[str, Any] | None:
    file = folder / f"{repo.replace('/', '--')}.json"
    if not file.is_file():
        return None
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return config
