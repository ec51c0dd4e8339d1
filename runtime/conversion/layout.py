"""The merged model in the layout that is asked for: export.merged.layout, specgen merge --layout."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from runtime.internlm2.folders import require_internlm2, to_llama, to_original
from runtime.models.base import Base, locate

Layout = Literal["llama", "original"]


def require_layout(layout: Layout, base: Base) -> None:
    """Raises RunFault where the original layout is asked for, and the base is no InternLM2."""
    if layout == "original":
        require_internlm2(locate(base, weights=False))


@contextmanager
def written_as(layout: Layout, base: Base, out: Path, *, max_shard_size: str, form: str = "safetensors") -> Iterator[Path]:
    """The folder that a merged model is written into: `out`, or one aside whose content `out` then holds in the original layout."""
    if layout == "llama":
        yield out
        return
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".llama-") as aside:
        yield Path(aside)
        to_original(Path(aside), locate(base), out, max_shard_size=max_shard_size, form=form)


@contextmanager
def read_back(layout: Layout, out: Path) -> Iterator[Path]:
    """What was written, as transformers reads it: of the original layout a conversion that is gone afterwards."""
    if layout == "llama":
        yield out
        return
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".llama-") as aside:
        to_llama(out, Path(aside))
        yield Path(aside)
