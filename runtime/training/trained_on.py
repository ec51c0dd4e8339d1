"""What an adapter was trained on, beside it: peft's settings do not say that the base was quantized, and how.

The convert stage knows it from the config. A checkpoint of a run has no config with it, but the contract that it was made under.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.config import Int8Quantization, Nf4Quantization
from runtime.faults import WRONG, RunFault
from runtime.models.model import bitsandbytes_settings, skipped_with
from runtime.training import contract

FILE = "trained_on.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedOn:
    """A quantized base: bitsandbytes' settings in transformers' terms, and the type that its other weights had. `taken` says that
    a part of the weights was taken out before they were quantized (LoftQ)."""

    quantization: dict[str, Any]
    dtype: str
    taken: bool


def takes_from_base(init_lora_weights: str) -> bool:
    """Whether an adapter that begins so begins with a part of the base's weights."""
    return init_lora_weights == "olora" or init_lora_weights.startswith("pissa")


def takes_before_quantization(init_lora_weights: str, loftq_iter: int) -> bool:
    """Whether the base was quantized without a part of its weights: the adapter then belongs to no base that others have."""
    return init_lora_weights == "loftq" and loftq_iter > 1


def of_contract(found: Mapping[str, Any]) -> TrainedOn | None:
    """What a contract says of it; None where the base was not quantized. Raises RunFault where bitsandbytes is missing."""
    kind = next((kind for kind in (Nf4Quantization, Int8Quantization) if f"model.quantization.{kind.TAG}.skip_modules" in found), None)
    if kind is None:
        return None
    prefix = f"model.quantization.{kind.TAG}."
    said = {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}
    quantization = kind(**said)
    sees = any(key.startswith("model.vision.") for key in found)
    settings = bitsandbytes_settings(quantization, skipped_with(quantization.skip_modules, sees=sees))
    taken = takes_before_quantization(str(found.get("adapter.lora.init_lora_weights")), int(found.get("adapter.lora.loftq_iter", 1)))
    return TrainedOn(quantization=settings.to_dict(), dtype=found["model.dtype"], taken=taken)


def write(folder: Path, quantization: dict[str, Any], *, dtype: str, taken: bool) -> None:
    """Puts it beside the adapter."""
    content = {"quantization": quantization, "dtype": dtype, "taken": taken}
    (folder / FILE).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def require_untaken(folder: Path) -> None:
    """Raises RunFault for an adapter that began with a part of the base's weights and lies as training left it: it fits no base."""
    method = str(contract.made_under(folder).get("adapter.lora.init_lora_weights"))
    if takes_from_base(method):
        message = f"the adapter in {folder} began with a part of the base's weights ({method}): as it lies there it fits no base"
        raise RunFault("SG467", message, f"make an ordinary one of it: specgen convert {shlex.quote(str(folder))} OUT", exit_code=WRONG)


def read(folder: Path) -> TrainedOn | None:
    """What is said there, or of a checkpoint in its contract; None where nothing is: the base was not quantized, or something else
    wrote the adapter. Raises RunFault for a damaged file."""
    if not (folder / FILE).exists():
        return of_contract(contract.made_under(folder))
    try:
        return TrainedOn(**json.loads((folder / FILE).read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise RunFault("SG441", f"{folder / FILE} cannot be read: it is not as a run writes it") from None
