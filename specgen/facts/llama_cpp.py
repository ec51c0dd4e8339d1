"""Whether llama.cpp can split texts as a model's tokenizer does: told from its files, without reading the vocabulary."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from conversations.llama_cpp import split_of
from specgen.facts.gguf import read_gguf_header
from specgen.facts.hub_cache import cached_snapshot
from specgen.facts.model import MissingBase, locate
from specgen.plan import HubBase, LocalBase, PackageBase

HEAD_BYTES = 8_000_000  # what stands in a tokenizer.json before its vocabulary is not longer
GGUF_KINDS = ("gpt2", "llama")


def can_split(base: PackageBase | HubBase | LocalBase) -> bool | None:
    """None where the tokenizer's files are not at hand, have another form, or cannot be read, which is told of the model."""
    try:
        path = cached_snapshot(base.repo, base.revision) if isinstance(base, HubBase) else locate(base)
        if path is None:
            return None
        if path.is_file():
            return read_gguf_header(path).values.get("tokenizer.ggml.model") in GGUF_KINDS
        described = _described(path / "tokenizer.json")
        return None if described is None else split_of(described) is not None
    except (MissingBase, OSError, ValueError, KeyError, TypeError, AttributeError):  # a tokenizer.json may hold anything
        return None


def _described(file: Path) -> dict[str, Any] | None:
    """A tokenizer.json without its vocabulary and merges."""
    if not file.is_file():
        return None
    with file.open("rb") as stream:
        head, found, model = stream.read(HEAD_BYTES).decode("utf-8", "ignore").partition('"model":')
    before, has_vocabulary, _ = model.partition('"vocab"')
    if not (found and has_vocabulary):
        return None
    try:
        described = json.loads(head.rstrip().rstrip(",") + "}")
        described["model"] = json.loads(re.sub(r",\s*$", "", before.strip()) + "}")
    except (ValueError, TypeError):
        return None
    return described if isinstance(described, dict) else None
