"""Finds the folders that travel with the package, beside it in a checkout, inside it in a wheel; and the cache folder."""

import os
from pathlib import Path

_PACKAGE = Path(__file__).parent


def data_folder(name: str) -> Path:
    """The folder `schemas` or `specs`."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def cache_folder() -> Path:
    """What can be made again lies here: $SPECGEN_CACHE, else specgen/ in the user's cache folder."""
    if own := os.environ.get("SPECGEN_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "specgen"
