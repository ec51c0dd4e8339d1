"""What an adapter was trained on, beside it: peft's settings do not say that the base was quantized, and how."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.config import LoraAdapter
from runtime.faults import RunFault

FILE = "trained_on.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedOn:
    """A quantized base: bitsandbytes' settings in transformers' terms, and the type that its other weights had. `taken` says that
    a part of the weights was taken out before they were quantized (LoftQ)."""

    quantization: dict[str, Any]
    dtype: str
    taken: bool


def takes_before_quantization(lora: LoraAdapter) -> bool:
    """Whether the base was quantized without a part of its weights: the adapter then belongs to no base that others have."""
    return lora.init_lora_weights == "loftq" and lora.loftq_iter > 1


def write(folder: Path, quantization: dict[str, Any], *, dtype: str, taken: bool) -> None:
    """Puts it beside the adapter."""
    content = {"quantization": quantization, "dtype": dtype, "taken": taken}
    (folder / FILE).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read(folder: Path) -> TrainedOn | None:
    """What is said there; None where nothing is: the base was not quantized, or something else wrote the adapter. Raises
    RunFault for a damaged file."""
    if not (folder / FILE).exists():
        return None
    try:
        return TrainedOn(**json.loads((folder / FILE).read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise RunFault("SG441", f"{folder / FILE} cannot be read: it is not as a run writes it") from None
