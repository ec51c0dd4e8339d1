"""Whether the disk has room for what a run is going to write: asked before hours are paid for."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from runtime import console
from runtime.config import Config
from runtime.models.model import numbers_of, torch_dtype
from runtime.vision.parts import adapter_of

FLOAT32 = 4
BESIDE_WEIGHTS = 2  # AdamW keeps two more numbers for each weight that it trains
SCARCE = "SG458"


def needed(model: torch.nn.Module, config: Config) -> tuple[int, int]:
    """Bytes of one checkpoint and of the exports together. Other optimizers than AdamW in float32 keep less, or as much."""
    trained = sum(numbers_of(parameter) for parameter in model.parameters() if parameter.requires_grad)
    checkpoint = trained * FLOAT32 * (1 + BESIDE_WEIGHTS)
    whole = sum(numbers_of(parameter) for parameter in model.parameters())
    dtypes = config.export.adapter.dtype, config.export.merged.dtype
    adapter, merged = (torch_dtype(dtype).itemsize for dtype in dtypes)
    exports = (trained * adapter if adapter_of(config) else 0) + whole * merged
    return checkpoint, exports


def told_if_scarce(model: torch.nn.Module, config: Config, folder: Path) -> None:
    """A line where the disk has less than the checkpoints that are kept, one that is being written, and the exports."""
    checkpoint, exports = needed(model, config)
    number = config.train.save_total_limit + 1
    total, free = number * checkpoint + exports, shutil.disk_usage(folder).free
    if total > free:
        console.say(
            "train",
            f"warning {SCARCE}: {folder} has {console.size(free)} free; {number} checkpoints of {console.size(checkpoint)} and the exports"
            f" of {console.size(exports)} need {console.size(total)}",
        )
