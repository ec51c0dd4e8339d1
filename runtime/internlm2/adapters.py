"""LoRA adapters in both layouts, with the same sum at the end: W + s B A.

# R rank, D model, H heads, K key/value heads, d size of a head
wqkv has one A [R, D], which all of q, k and v share, and one B [(H + 2K) d, R], whose rows are cut as those of the weight; so are
DoRA's lengths. Back again three different A [R, D] are one of 3R rows, with a B that is zero where a row is not theirs; the three
that came of one wqkv are that one again.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from runtime.faults import WRONG, RunFault
from runtime.internlm2.layout import BACK, NAMES, PARTS, WQKV, joined, parts_of, renamed, split
from runtime.internlm2.settings import LLAMA, MODEL_TYPE, Sizes, sizes_of
from runtime.weights.adapters import FACTORS, PREFIX, Adapter, matches

Tensors = dict[str, torch.Tensor]
Settings = Mapping[str, Any]
LLAMAS = (LLAMA, MODEL_TYPE)
ONCE = ("embed_tokens", "lm_head", "norm", "tok_embeddings", "output")  # modules outside the layers
A, B = "lora_A.weight", "lora_B.weight"
OWN = (WQKV, *(name for name in NAMES if name not in BACK))


@dataclass(frozen=True, slots=True, kw_only=True)
class Turned:
    """An adapter's tensors by the names of the other layout, and the settings of peft that change with them."""

    tensors: Tensors
    settings: dict[str, Any]


def needs_llama(paths: Iterable[str], base: Settings) -> bool:
    """Whether one of an adapter's modules has a name of InternLM2's own code, and the base may be the Llama that InternLM2 is here."""
    return base.get("model_type") in LLAMAS and any(path == name or path.endswith(f".{name}") for path in paths for name in OWN)


def to_llama(tensors: Tensors, settings: Settings, base: Settings, folder: Path) -> Turned:
    """An adapter of InternLM2's names, as peft writes it, for the Llama with this config.json; any other is left as it is.

    Raises RunFault for a module that no InternLM2 has. `folder` is the adapter's, for messages.
    """
    if not needs_llama((_cut(name)[0] for name in tensors), base):
        return Turned(tensors=tensors, settings={})
    sizes = sizes_of(base, folder)
    found: Tensors = {}
    came_of: dict[str, str] = {}
    for name, tensor in tensors.items():
        path, part = _cut(name)
        places = _places(path, folder)
        rows = [tensor] if len(places) == 1 else [tensor] * 3 if FACTORS.get(part) == "A" else split(tensor, sizes)
        for place, piece in zip(places, rows, strict=True):
            found[f"{PREFIX}{place}.{part}"] = piece
            if part in FACTORS:
                came_of[place] = path
    patterns = {name: _pattern(settings, name, came_of) for name in ("rank_pattern", "alpha_pattern")}
    return Turned(tensors=found, settings={**_modules(found, sizes), **patterns})


def to_original(tensors: Tensors, settings: Settings, sizes: Sizes, folder: Path) -> Turned:
    """An adapter for the Llama by InternLM2's names. Raises RunFault for DoRA that leaves out one of q, k and v: the lengths of its
    rows are the base's, which are not here."""
    modules: dict[str, Tensors] = {}
    for name, tensor in tensors.items():
        path, part = _cut(name)
        modules.setdefault(path, {})[part] = tensor
    found: dict[str, Tensors] = {}
    ranks, alphas = {}, {}
    for path, parts in modules.items():
        stem = next((path.removesuffix(end) for end in PARTS if path.endswith(end)), None)
        if stem is None:
            own = renamed(path, BACK)
            if own is None:
                raise _no_place(folder, path)
            found[own] = parts
            ranks[own], alphas[own] = (_of(settings, name, path) for name in ("rank_pattern", "alpha_pattern"))
        elif (own := stem + WQKV) not in found:
            three = {end: modules[stem + end] for end in PARTS if stem + end in modules}  # in the order of q, k, v
            found[own], ranks[own], alphas[own] = _stacked(stem, three, settings, sizes, folder)
    named = {f"{PREFIX}{path}.{part}": tensor for path, parts in found.items() for part, tensor in parts.items()}
    adapted = {path for path, parts in found.items() if FACTORS.keys() & parts.keys()}
    patterns = {
        "rank_pattern": {path: ranks[path] for path in adapted if ranks[path] != settings["r"]},
        "alpha_pattern": {path: alphas[path] for path in adapted if alphas[path] != settings["lora_alpha"]},
    }
    return Turned(tensors=named, settings={**_modules(named, sizes), **patterns})


def fitted(adapter: Adapter, base: Path) -> Adapter:
    """An adapter folder with the names of the Llama in `base`, a folder that it is merged into; any other is left as it is."""
    settings = json.loads((base / "config.json").read_text(encoding="utf-8"))
    if not needs_llama([*adapter.modules, *(name.rpartition(".")[0] for name in adapter.whole)], settings):
        return adapter
    sizes = sizes_of(settings, base)
    modules: dict[str, dict[str, str]] = {}
    came_of: dict[str, str] = {}
    held: Tensors = {}
    for path, parts in adapter.modules.items():
        for index, place in enumerate(places := _places(path, adapter.folder)):
            came_of[place] = path
            modules[place] = dict(parts)
            for part, name in parts.items() if len(places) > 1 else ():
                if part != "A":
                    modules[place][part] = f"{name}[{index}]"
                    held[f"{name}[{index}]"] = split(adapter.tensor(name), sizes)[index]
    whole: dict[str, str] = {}
    for name, tensor in adapter.whole.items():
        path, _, part = name.rpartition(".")
        if len(places := _places(path, adapter.folder)) > 1:
            raise _no_place(adapter.folder, name)
        whole[f"{places[0]}.{part}"] = tensor
    patterns = {name: _pattern(adapter.settings, name, came_of) for name in ("rank_pattern", "alpha_pattern")}
    return replace(adapter, modules=modules, whole=whole, held=held, settings={**adapter.settings, **patterns})


def _cut(name: str) -> tuple[str, str]:
    """A tensor's module, and what of it the tensor is."""
    own = name.removeprefix(PREFIX)
    part = next((part for part in FACTORS if own.endswith(f".{part}")), own.rpartition(".")[2])
    return own.removesuffix(f".{part}"), part


def _places(path: str, folder: Path) -> tuple[str, ...]:
    """The Llama's modules that a module of InternLM2 is."""
    found = parts_of(path) or renamed(path, NAMES)
    if found is None:
        raise _no_place(folder, path)
    return found if isinstance(found, tuple) else (found,)


def _stacked(stem: str, three: dict[str, Tensors], settings: Settings, sizes: Sizes, folder: Path) -> tuple[Tensors, int, float]:
    """One adapter of wqkv for those of q, k and v, with its rank and alpha; whole weights and DoRA's lengths are joined as they are."""
    given = list(three.values())
    rest = [part for part in given[0] if part not in (A, B)]
    if rest and len(given) < len(PARTS):
        left_out = next(end for end in PARTS if end not in three)
        raise _no_place(folder, f"the {rest[0]} of {stem}{left_out} is the base's")
    together = {part: joined([parts[part] for parts in given], sizes) for part in rest}
    if A not in given[0]:
        return together, settings["r"], settings["lora_alpha"]
    ranks = {end: int(_of(settings, "rank_pattern", stem + end)) for end in three}
    alphas = {end: float(_of(settings, "alpha_pattern", stem + end)) for end in three}
    first = next(iter(three))
    if len(given) == len(PARTS) and len({*alphas.values()}) == 1 and all(torch.equal(given[0][A], parts[A]) for parts in given):
        return {A: given[0][A], B: joined([parts[B] for parts in given], sizes), **together}, ranks[first], alphas[first]
    scales = {end: alphas[end] / _divisor(settings, ranks[end]) for end in three}
    rank, start, blocks = sum(ranks.values()), 0, []
    for end, rows in zip(PARTS, (sizes.heads, sizes.kv_heads, sizes.kv_heads), strict=True):
        blocks.append(torch.zeros(rows * sizes.head, rank, dtype=given[0][B].dtype))
        if end in three:
            blocks[-1][:, start : start + ranks[end]] = three[end][B] * (scales[end] / scales[first])
            start += ranks[end]
    whole = {A: torch.cat([parts[A] for parts in given]), B: joined(blocks, sizes)}
    return {**whole, **together}, rank, scales[first] * _divisor(settings, rank)


def _divisor(settings: Settings, rank: int) -> float:
    return math.sqrt(rank) if settings.get("use_rslora") else rank


def _of(settings: Settings, pattern: str, path: str) -> Any:
    usual = {"rank_pattern": "r", "alpha_pattern": "lora_alpha"}[pattern]
    return next((value for key, value in (settings.get(pattern) or {}).items() if matches(key, path)), settings[usual])


def _pattern(settings: Settings, pattern: str, came_of: Mapping[str, str]) -> dict[str, Any]:
    """A pattern of peft's by the modules that it is about, each with the name that it has now."""
    if not settings.get(pattern):
        return {}
    usual = settings[{"rank_pattern": "r", "alpha_pattern": "lora_alpha"}[pattern]]
    return {place: value for place, path in came_of.items() if (value := _of(settings, pattern, path)) != usual}


def _modules(tensors: Tensors, sizes: Sizes) -> dict[str, Any]:
    """What peft adapts and brings whole: by the last part of the name where all layers have it, else each by its path."""
    adapted = {path for path, part in map(_cut, tensors) if part in FACTORS}
    whole = {path.rpartition(".")[2] for path, part in map(_cut, tensors) if part not in FACTORS}
    number = Counter(path.rpartition(".")[2] for path in adapted)
    everywhere = {leaf for leaf, count in number.items() if leaf in ONCE or count == sizes.layers}
    targets = {leaf if (leaf := path.rpartition(".")[2]) in everywhere else path for path in adapted}
    return {"target_modules": sorted(targets), "modules_to_save": sorted(whole) or None}


def _no_place(folder: Path, what: str) -> RunFault:
    return RunFault(
        "SG499", f"the adapter in {folder} cannot be mapped between InternLM2 and Llama: {what}", "merge it with peft", exit_code=WRONG
    )
