"""The merged model in the layout that a spec asks for: export.merged.layout."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.config import Config
from runtime.internlm2.folders import require_internlm2, to_llama, to_original
from runtime.model import locate


def require_layout(config: Config) -> None:
    """Raises RunFault where the original layout is asked for, and the base is no InternLM2."""
    if config.export.merged.layout == "original":
        require_internlm2(locate(config.model.base, weights=False))


@contextmanager
def written_as(config: Config, out: Path) -> Iterator[Path]:
    """The folder that a merged model is written into: `out`, or one aside whose content `out` then holds in the original layout."""
    if config.export.merged.layout == "llama":
        yield out
        return
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".llama-") as aside:
        yield Path(aside)
        to_original(Path(aside), locate(config.model.base), out, max_shard_size=config.export.merged.max_shard_size)


@contextmanager
def read_back(config: Config, out: Path) -> Iterator[Path]:
    """What was written, as transformers reads it: of the original layout a conversion that is gone afterwards."""
    if config.export.merged.layout == "llama":
        yield out
        return
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".llama-") as aside:
        to_llama(out, Path(aside))
        yield Path(aside)
