"""Where a model is computed: on a GPU that has room for it, or on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from runtime import console
from runtime.faults import WRONG, RunFault

if TYPE_CHECKING:
    import torch

ROOM = 1.1  # of a model's weights: what it holds beside them for one short row


def pick_device(choice: str = "auto", *, setting: str = "export.merged.device", needed: Callable[[], int] = lambda: 0) -> torch.device:
    """cuda or cpu; auto takes a GPU that has as many bytes free as a model's weights need, and says so where it has not.

    `needed` is asked for only where there is a choice. `setting` is what chose, for the message. Raises RunFault where cuda was
    chosen and there is none.
    """
    import torch

    if choice == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        if choice == "cuda":
            raise RunFault("SG415", f"{setting}: cuda, but PyTorch sees no GPU", "write auto or cpu", exit_code=WRONG)
        return torch.device("cpu")
    if choice == "auto" and (weights := needed()) * ROOM > (free := torch.cuda.mem_get_info()[0]):
        console.say("", f"on the CPU: the model takes {console.size(weights)}, and the GPU has {console.size(free)} free")
        return torch.device("cpu")
    return torch.device("cuda")


def roomy_device(choice: str, folder: Path, dtype: torch.dtype | None, *, setting: str = "export.merged.device") -> torch.device:
    """As pick_device, for the weights of a model folder in a dtype, or in the types of its files."""
    return pick_device(choice, setting=setting, needed=lambda: weights_bytes(folder, dtype))


def weights_bytes(folder: Path, dtype: torch.dtype | None) -> int:
    """Bytes that the weights of a model folder take in a dtype, or in the types of its files; 0 where they cannot be read, which
    who loads them tells."""
    from math import prod

    from runtime.weights.shards import files_of, kinds

    try:
        found = kinds(files_of(folder, "the weights"))
    except RunFault:
        return 0
    return sum(prod(shape) * (dtype or own).itemsize for shape, own in found.values())
