"""Safetensors folders, whole or sharded: which file holds which tensor, read one at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from safetensors import safe_open

from runtime.faults import RunFault

WEIGHTS = "model.safetensors"
INDEX = WEIGHTS + ".index.json"


def files_of(folder: Path, what: str) -> dict[str, Path]:
    """Tensor name → the file that holds it. Raises RunFault where `what` the folder holds cannot be read."""
    try:
        if (folder / INDEX).exists():
            weight_map: dict[str, str] = json.loads((folder / INDEX).read_text())["weight_map"]
            return {name: folder / file for name, file in weight_map.items()}
        with safe_open(folder / WEIGHTS, framework="pt") as stream:
            return dict.fromkeys(stream.keys(), folder / WEIGHTS)
    except (OSError, ValueError) as error:
        raise RunFault("SG441", f"{what} in {folder} cannot be read: {error}") from None


def shapes(where: dict[str, Path]) -> Iterator[tuple[str, list[int]]]:
    """Names and shapes, without reading values."""
    for name, file in where.items():
        with safe_open(file, framework="pt") as stream:
            yield name, stream.get_slice(name).get_shape()


def tensors(where: dict[str, Path], names: Iterable[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """These tensors, one after another."""
    for name in names:
        with safe_open(where[name], framework="pt") as stream:
            yield name, stream.get_tensor(name)
