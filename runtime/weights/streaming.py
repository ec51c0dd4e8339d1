"""Base + adapters → merged weights, tensor by tensor, from file to file.

Memory is what the largest adapted matrix needs: itself, its product B A in float32 and the sum; of DoRA two more copies in float32.
The bytes are those of peft's merge_and_unload on a base that was loaded in the same type. One thing is different: where the input
and output embeddings are tied and an adapter changes one of them, peft adds to the one tensor that both are, which is not what was
trained; here they are two afterwards, and config.json says so.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from runtime.faults import WRONG, RunFault
from runtime.weights import adapters as adapter_folders
from runtime.weights.adapters import Adapter
from runtime.weights.lora import merged
from runtime.weights.shards import COMPUTED, files_of, kinds, tensors
from runtime.weights.written import Kind, write_weights

Prepare = Callable[[str, torch.Tensor], torch.Tensor]
OUTPUT_OF = {"embed_tokens": "lm_head", "wte": "lm_head", "word_embeddings": "lm_head", "tok_embeddings": "output", "embed_in": "embed_out"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What was written: its bytes, and whether input and output embeddings are one tensor."""

    bytes: int
    tied: bool


def merge_files(
    base: Path,
    adapters: Sequence[Adapter],
    out: Path,
    *,
    dtype: torch.dtype | None,
    max_shard_size: str,
    form: str = "safetensors",
    device: torch.device | str = "cpu",
    prepare: Prepare | None = None,
    keep: Callable[[str], bool] | None = None,
    hint: str | None = None,
) -> Merged:
    """Writes the merged weights into `out`; None for `dtype` keeps the base's types. `prepare` changes a base weight before: what a
    quantization makes of it. `keep` says which tensors of the base are wanted. Raises RunFault where an adapter does not fit."""
    where = {
        name: file
        for name, file in files_of(base, "the base model's weights").items()
        if not name.endswith(COMPUTED) and (keep is None or keep(name))
    }
    adapter_folders.require_no_conflict(adapters)
    own = kinds(where)
    tied, sources = _untied(base, own, adapters)
    planned: dict[str, Kind] = {name: _planned(own[source], dtype) for name, source in sources.items()}
    both = _embeddings(own)
    _require_fit(adapters, planned, left_out=both[1] if tied and both is not None else None)
    out.mkdir(parents=True, exist_ok=True)

    def value(name: str) -> torch.Tensor:
        whole = next((adapter for adapter in adapters if name in adapter.whole), None)
        kind = planned[name][1]
        if whole is not None:
            weight = whole.tensor(whole.whole[name]).to(kind)
        else:
            weight = next(tensors(where, [sources[name]]))[1]
            if prepare is not None:
                weight = prepare(sources[name], weight)
        module, _, part = name.rpartition(".")
        adapting = [adapter for adapter in adapters if module in adapter.modules]
        if part == "weight" and adapting:
            return merged(weight.to(device, kind), [adapter.change(module, planned[name][0]) for adapter in adapting]).cpu()
        if part == "bias":
            for adapter in adapting:
                more = adapter.bias(module)
                weight = weight if more is None else (weight.to(kind) + more).to(kind)
        return weight  # turned to its type piece by piece when it is written

    number = write_weights(planned, value, out, max_shard_size=max_shard_size, form=form, hint=hint)
    return Merged(bytes=number, tied=tied)


def write_config(base: Path, out: Path, *, dtype: torch.dtype | None, tied: bool) -> None:
    """The base's config.json with what merging changes, and the model's own code where it has some."""
    settings = json.loads((base / "config.json").read_text(encoding="utf-8"))
    if dtype is not None:
        settings.pop("torch_dtype", None)
        settings["dtype"] = str(dtype).removeprefix("torch.")
    if is_tied(base) != tied:
        settings["tie_word_embeddings"] = tied
        if isinstance(settings.get("text_config"), dict) and "tie_word_embeddings" in settings["text_config"]:
            settings["text_config"]["tie_word_embeddings"] = tied
    settings.pop("_name_or_path", None)
    for code in base.glob("*.py") if "auto_map" in settings else ():
        shutil.copyfile(code, out / code.name)
    (out / "config.json").write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def is_tied(base: Path) -> bool:
    """Whether the model's input and output embeddings are one tensor: as config.json says, else as the architecture has it."""
    settings: dict[str, Any] = json.loads((base / "config.json").read_text(encoding="utf-8"))
    for part in (settings, settings.get("text_config") or {}):
        if "tie_word_embeddings" in part:
            return bool(part["tie_word_embeddings"])
    from transformers import AutoConfig

    try:
        return bool(AutoConfig.from_pretrained(base).get_text_config().tie_word_embeddings)
    except (ValueError, KeyError, AttributeError, OSError):  # a model with code of its own, which is not run
        return False


def _untied(base: Path, own: dict[str, Kind], adapters: Sequence[Adapter]) -> tuple[bool, dict[str, str]]:
    """Whether the embeddings stay one tensor, and the names to write → the base's tensor of each."""
    sources = {name: name for name in own}
    pair = _embeddings(own)
    if pair is None or not is_tied(base):
        return False, sources
    first, last = pair
    sources.pop(last, None)
    touched = {
        name: [adapter for adapter in adapters if name in adapter.whole or name.removesuffix(".weight") in adapter.modules] for name in pair
    }
    if not touched[first] and not touched[last]:
        return True, sources
    together = all(adapter.settings.get("ensure_weight_tying") for both in touched.values() for adapter in both)
    if together or _brought_alike(first, last, touched):
        return True, sources
    return False, {**sources, last: first}


def _brought_alike(first: str, last: str, touched: dict[str, list[Adapter]]) -> bool:
    """Whether both embeddings are brought whole, and are equal."""
    if not (len(touched[first]) == len(touched[last]) == 1):
        return False
    (one,), (other,) = touched[first], touched[last]
    return first in one.whole and last in other.whole and torch.equal(one.tensor(one.whole[first]), other.tensor(other.whole[last]))


def _embeddings(own: dict[str, Kind]) -> tuple[str, str] | None:
    """The names of the input embedding and of the output layer that goes with it."""
    for name in own:
        stem = name.removesuffix(".weight").rpartition(".")[2]
        if name.endswith(".weight") and stem in OUTPUT_OF:
            found = next((other for other in own if other.endswith(f"{OUTPUT_OF[stem]}.weight")), None)
            return name, found or f"{OUTPUT_OF[stem]}.weight"
    return None


def _planned(kind: Kind, dtype: torch.dtype | None) -> Kind:
    shape, own = kind
    return shape, dtype if dtype is not None and own.is_floating_point else own


def _require_fit(adapters: Sequence[Adapter], planned: dict[str, Kind], left_out: str | None) -> None:
    """Raises RunFault for a change that finds no place; `left_out` is the output layer where the input embedding stands for it."""
    for adapter in adapters:
        for name, tensor in adapter.whole.items():
            if name == left_out:
                continue
            if name not in planned:
                _refuse(adapter, f"it has no {name}")
            shape = kinds({tensor: adapter.where[tensor]})[tensor][0]
            if shape != planned[name][0]:
                _refuse(adapter, f"{name} is {shape} in the adapter, {planned[name][0]} in the base model")
        for module, parts in adapter.modules.items():
            name = f"{module}.weight"
            if name not in planned:
                _refuse(adapter, f"it has no {name}")
            wanted = planned[name][0]
            found = adapter.change(module, wanted).shape()
            if found != wanted:
                _refuse(adapter, f"{name} is {found} in the adapter, {wanted} in the base model")
            if "bias" in parts and f"{module}.bias" not in planned:
                _refuse(adapter, f"it has no {module}.bias")


def _refuse(adapter: Adapter, reason: str) -> None:
    raise RunFault("SG442", f"the adapter in {adapter.folder} does not fit the base model: {reason}", exit_code=WRONG)
