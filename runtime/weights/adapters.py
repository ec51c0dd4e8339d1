"""Adapter folders read without peft: which tensors change which weight, and by how much."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from runtime.faults import WRONG, RunFault
from runtime.weights.lora import Change
from runtime.weights.shards import OF_ADAPTERS, files_of, kinds, tensors

SETTINGS = "adapter_config.json"
PREFIX = "base_model.model."  # of a module's name in peft's files
FACTORS = {"lora_A.weight": "A", "lora_B.weight": "B", "lora_embedding_A": "A", "lora_embedding_B": "B", "lora_B.bias": "bias"}
FACTORS |= {"lora_magnitude_vector": "magnitude", "lora_magnitude_vector.weight": "magnitude"}
# settings of peft under which a layer computes something else than W + s B A
OTHER_METHODS: tuple[str, ...] = ("use_qalora", "use_bdlora", "alora_invocation_tokens", "arrow_config", "velora_config")
OTHER_METHODS += (
    "monteclora_config",
    "kasa_config",
    "target_parameters",
    "trainable_token_indices",
    "layer_replication",
    "megatron_config",
)
OTHER_BEGINNINGS = ("mica", "kasa")


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """An adapter folder, its settings and where its tensors are; `weight` is how much of it is merged.

    `modules` are the adapted ones by their names in the base model: part → tensor's name. `whole` are weights and biases that the
    adapter brings as they are: name in the base model → tensor's name. `held` are tensors that are in no file, being parts of one.
    """

    folder: Path
    settings: dict[str, Any]
    where: dict[str, Path]
    weight: float = 1.0
    modules: dict[str, dict[str, str]] = field(default_factory=dict)
    whole: dict[str, str] = field(default_factory=dict)
    held: dict[str, torch.Tensor] = field(default_factory=dict)

    def tensor(self, name: str) -> torch.Tensor:
        """A tensor of the adapter by its name in the file, read when it is asked for."""
        return self.held[name] if name in self.held else next(tensors(self.where, [name]))[1]

    def change(self, module: str, shape: Sequence[int]) -> Change:
        """What is added to the weight of a module, which has this shape."""
        parts = self.modules[module]
        first, second = self.tensor(parts["A"]), self.tensor(parts["B"])
        rank = _setting(self.settings, module, "rank_pattern", "r")
        if first.ndim != 2 or second.ndim != 2:
            raise RunFault(
                "SG467", f"the adapter in {self.folder} adapts {module}, which is no matrix", "merge it with peft", exit_code=WRONG
            )
        if len(first) != rank or second.shape[1] != rank:
            message = f"the adapter in {self.folder} has rank {len(first)} in {module}, its {SETTINGS} says {rank}"
            raise RunFault("SG467", message, "r and rank_pattern have to be those that it was trained with", exit_code=WRONG)
        return Change(
            first=first,
            second=second,
            scaling=self.scaling(module),
            is_embedding=(is_embedding := parts["A"].endswith("lora_embedding_A")),
            turned=is_embedding or self._is_turned(first.shape[1], second.shape[0], shape),
            magnitude=self.tensor(parts["magnitude"]) if "magnitude" in parts else None,
        )

    def bias(self, module: str) -> torch.Tensor | None:
        """What is added to the bias of a module (lora_bias)."""
        name = self.modules[module].get("bias")
        return None if name is None else self.tensor(name).float() * self.scaling(module)

    def scaling(self, module: str) -> float:
        """s in W + s B A, times how much of the adapter is merged."""
        return scaling_of(self.settings, module, weight=self.weight)

    def identity(self) -> str:
        """The SHA-256 of its settings that count and of its tensors: the same adapter in another folder has the same."""
        digest = hashlib.sha256()
        counting = ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "fan_in_fan_out")
        digest.update(json.dumps({name: self.settings.get(name) for name in counting}, sort_keys=True).encode())
        for name in sorted(self.where):
            digest.update(name.encode())
            digest.update(memoryview(self.tensor(name).contiguous().view(-1).view(torch.uint8).numpy()))
        return digest.hexdigest()

    def _is_turned(self, inner: int, outer: int, shape: Sequence[int]) -> bool:
        """Whether the weight lies as [I, O]. Where only one way fits, that is it, as peft has it; else the settings say."""
        if inner != outer and list(shape) in ([inner, outer], [outer, inner]):
            return list(shape) == [inner, outer]
        return bool(self.settings.get("fan_in_fan_out"))


def scaling_of(settings: Mapping[str, Any], module: str, *, weight: float = 1.0) -> float:
    """s in W + s B A of a module, by an adapter's settings, in the order of operations that peft has."""
    rank, alpha = _setting(settings, module, "rank_pattern", "r"), _setting(settings, module, "alpha_pattern", "lora_alpha")
    found: float = weight * alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)
    return found


def _setting(settings: Mapping[str, Any], module: str, pattern: str, default: str) -> Any:
    patterns: dict[str, Any] = settings.get(pattern) or {}
    return next((value for key, value in patterns.items() if matches(key, module)), settings[default])


def read(folder: Path, weight: float = 1.0) -> Adapter:
    """An adapter folder as peft writes it. Raises RunFault for one that is not there, not whole, or no LoRA adapter."""
    if not folder.is_dir():
        raise RunFault("SG450", f"there is no folder {folder}", "give the folder that holds the adapter_config.json", exit_code=WRONG)
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except OSError:
        hint = "give a folder as peft writes it, or runs/NAME/convert"
        raise RunFault("SG450", f"{folder} is no adapter: it has no {SETTINGS}", hint, exit_code=WRONG) from None
    except ValueError as error:
        raise RunFault("SG441", f"the adapter in {folder} cannot be read: {SETTINGS} is no JSON ({error})") from None
    if not isinstance(settings, dict):
        raise RunFault("SG441", f"the adapter in {folder} cannot be read: {SETTINGS} holds no object")
    _require_lora(settings, folder)
    where = files_of(folder, "the adapter", OF_ADAPTERS)
    adapter = Adapter(folder=folder, settings=settings, where=where, weight=weight)
    _sort(adapter)
    for name, (shape, _) in kinds(where).items():
        if 0 in shape:
            raise RunFault("SG443", f"{name} of the adapter in {folder} is empty", "save it again, gathered from all processes")
    _require_whole(adapter)
    return adapter


def _require_lora(settings: dict[str, Any], folder: Path) -> None:
    kind = settings.get("peft_type")
    others = [name for name in OTHER_METHODS if settings.get(name)]
    begun = str(settings.get("init_lora_weights")).lower()
    if kind == "LORA":
        for name in ("r", "lora_alpha"):
            if not isinstance(value := settings.get(name), int | float) or not 0 < value < math.inf:
                raise RunFault("SG441", f"the adapter in {folder} cannot be read: {name} is {value!r} in {SETTINGS}")
    if kind != "LORA":
        message = f"the adapter in {folder} is of type {kind}; LoRA adapters are merged (with DoRA, rsLoRA, patterns, modules_to_save)"
        raise RunFault("SG467", message, "merge it with peft", exit_code=WRONG)
    if others or begun in OTHER_BEGINNINGS:
        name = others[0] if others else f"init_lora_weights: {begun}"
        message = f"the adapter in {folder} has {name}: its layers compute something else than weight + B A"
        raise RunFault("SG467", message, "merge it with peft", exit_code=WRONG)


def _sort(adapter: Adapter) -> None:
    """Fills `modules` and `whole` with what the tensors' names say."""
    for name in adapter.where:
        own = name.removeprefix(PREFIX)
        part = next((part for part in FACTORS if own.endswith(f".{part}")), None)
        if part is not None:
            adapter.modules.setdefault(own.removesuffix(f".{part}"), {})[FACTORS[part]] = name
        elif "lora_" in own or "token_adapter" in own:
            message = f"the adapter in {adapter.folder} has {name}, which merging does not know"
            raise RunFault("SG467", message, "merge it with peft", exit_code=WRONG)
        else:
            adapter.whole[own.replace(".base_layer.", ".").replace(".modules_to_save.", ".")] = name


def _require_whole(adapter: Adapter) -> None:
    for module, parts in adapter.modules.items():
        missing = {"A", "B"} - parts.keys()
        if missing or (adapter.settings.get("use_dora") and "magnitude" not in parts):
            what = f"lora_{min(missing)}" if missing else "lora_magnitude_vector"
            raise RunFault("SG441", f"the adapter in {adapter.folder} cannot be read: {module} has no {what}")
    for pattern in ("rank_pattern", "alpha_pattern"):
        for key in adapter.settings.get(pattern) or {}:
            if not any(matches(key, module) for module in adapter.modules):
                message = f"{pattern} of the adapter in {adapter.folder} names {key}, which is none of its modules"
                raise RunFault("SG467", message, f"correct {pattern} in its {SETTINGS}", exit_code=WRONG)
    if adapter.weight != 1 and (adapter.whole or adapter.settings.get("use_dora")):
        what = "DoRA's lengths" if adapter.settings.get("use_dora") else next(iter(adapter.whole))
        message = f"the adapter in {adapter.folder} brings {what}, of which no part can be merged"
        raise RunFault("SG467", message, "give it without a weight", exit_code=WRONG)


def require_no_conflict(adapters: Iterable[Adapter]) -> None:
    """Raises RunFault where two adapters bring the same weight whole."""
    brought: dict[str, Path] = {}
    for adapter in adapters:
        for name in adapter.whole:
            if name in brought:
                message = f"the adapters in {brought[name]} and {adapter.folder} both bring {name} whole"
                raise RunFault("SG467", message, "merge one of them", exit_code=WRONG)
            brought[name] = adapter.folder


def matches(key: str, module: str) -> bool:
    """As peft's get_pattern_key."""
    return re.match(rf"(.*\.)?({key})$", module) is not None
