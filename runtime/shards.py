"""Folders of weights, whole or sharded, safetensors or .bin: which file holds which tensor, read one at a time."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from runtime.faults import RunFault

WEIGHTS = "model.safetensors"
OF_MODELS = (WEIGHTS, "pytorch_model.bin")
OF_ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")
COMPUTED = ("rotary_emb.inv_freq", "masked_bias")  # by the model's code: old files have them, transformers writes them no more


def files_of(folder: Path, what: str, names: Iterable[str] = OF_MODELS) -> dict[str, Path]:
    """Tensor name → the file that holds it. Raises RunFault where `what` the folder holds cannot be read."""
    try:
        for name in names:
            if (folder / f"{name}.index.json").exists():
                weight_map: dict[str, str] = json.loads((folder / f"{name}.index.json").read_text(encoding="utf-8"))["weight_map"]
                for file in sorted(set(weight_map.values())):
                    if not (folder / file).is_file():
                        raise OSError(f"{file} is missing, which {name}.index.json names")
                return {tensor: folder / file for tensor, file in weight_map.items()}
            if (folder / name).exists():
                return dict.fromkeys(_names(folder / name), folder / name)
        raise OSError(f"there is neither {' nor '.join(names)}, nor an index of shards")
    except (OSError, ValueError, KeyError, AttributeError, SafetensorError, pickle.UnpicklingError, RuntimeError) as error:
        raise RunFault("SG441", f"{what} in {folder} cannot be read: {_reason(error)}") from None


def shapes(where: dict[str, Path]) -> Iterator[tuple[str, list[int]]]:
    """Names and shapes, without reading values."""
    for name, (shape, _) in kinds(where).items():
        yield name, shape


def kinds(where: dict[str, Path]) -> dict[str, tuple[list[int], torch.dtype]]:
    """Name → shape and type, without reading values."""
    found: dict[str, tuple[list[int], torch.dtype]] = {}
    for file in dict.fromkeys(where.values()):
        names = [name for name, place in where.items() if place == file]
        if file.suffix == ".safetensors":
            with _opened(file) as stream:
                found |= {name: (stream.get_slice(name).get_shape(), _type(stream.get_slice(name).get_dtype())) for name in names}
        else:
            tensors_of = _loaded(file)
            found |= {name: (list(tensors_of[name].shape), tensors_of[name].dtype) for name in names}
    return {name: found[name] for name in where}


def tensors(where: dict[str, Path], names: Iterable[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """These tensors, one after another: each is a view of its file, which is let go with it."""
    for name in names:
        file = where[name]
        if file.suffix != ".safetensors":
            yield name, _loaded(file)[name]
            continue
        with _opened(file) as stream:
            try:
                tensor = stream.get_tensor(name)
            except SafetensorError as error:
                raise RunFault("SG441", f"{file} cannot be read: {error}") from None
            yield name, tensor


def _opened(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt")
    except (OSError, SafetensorError) as error:
        raise RunFault("SG441", f"{file} cannot be read: {_reason(error)}") from None


def _names(file: Path) -> list[str]:
    if file.suffix != ".safetensors":
        return list(_loaded(file))
    with safe_open(file, framework="pt") as stream:
        return list(stream.keys())


def _loaded(file: Path) -> dict[str, torch.Tensor]:
    """A .bin file's tensors, mapped into memory: nothing in it but tensors is read."""
    found: dict[str, torch.Tensor] = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    return found


def _type(name: str) -> torch.dtype:
    known = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32", "I16": "int16"}
    known |= {"I8": "int8", "U8": "uint8", "BOOL": "bool", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}
    found: torch.dtype = getattr(torch, known[name])
    return found


def _reason(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
