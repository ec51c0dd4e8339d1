"""The hub's cache on this machine, read directly: models--OWNER--NAME/{refs,snapshots}. huggingface_hub need not be installed."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """Where huggingface_hub keeps what it downloads: $HF_HUB_CACHE, else hub/ in $HF_HOME, else in the user's cache folder."""
    if own := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(own).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "huggingface" / "hub"


def cached_snapshot(repo: str, revision: str | None) -> Path | None:
    """The folder of a model's downloaded revision (a branch, a tag or a commit; None is main), or None."""
    folder = cache_root() / f"models--{repo.replace('/', '--')}"
    wanted = revision or "main"
    try:
        commit = (folder / "refs" / wanted).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        commit = wanted
    snapshot = folder / "snapshots" / commit
    return snapshot if snapshot.is_dir() else None
