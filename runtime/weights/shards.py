"""Folders of weights, whole or sharded, safetensors or .bin: which file holds which tensor, read one at a time."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from runtime.faults import RunFault

WEIGHTS = "model.safetensors"
OF_MODELS = (WEIGHTS, "pytorch_model.bin")
OF_ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")
COMPUTED = ("rotary_emb.inv_freq", "masked_bias")  # by the model's code: old files have them, transformers writes them no more
UNREADABLE = (OSError, EOFError, SafetensorError, pickle.UnpicklingError, RuntimeError)  # what a damaged file ends with
CODES = {  # what safetensors calls the types, in the headers of its files
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
TYPES = {code: dtype for dtype, code in CODES.items()}


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
    except (ValueError, KeyError, AttributeError, *UNREADABLE) as error:
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
        with _told(file):
            if file.suffix == ".safetensors":
                with safe_open(file, framework="pt") as stream:
                    found |= {name: (stream.get_slice(name).get_shape(), _type(stream.get_slice(name).get_dtype())) for name in names}
            else:
                tensors_of = _loaded(file)
                found |= {name: (list(_named(tensors_of, name).shape), tensors_of[name].dtype) for name in names}
    return {name: found[name] for name in where}


def tensors(where: dict[str, Path], names: Iterable[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """These tensors, one after another: each is a view of its file, which is let go with it."""
    for name in names:
        file = where[name]
        with _told(file):
            if file.suffix != ".safetensors":
                tensor = _named(_loaded(file), name)
            else:
                with safe_open(file, framework="pt") as stream:
                    tensor = stream.get_tensor(name)
        yield name, tensor


def names_in(file: Path) -> list[str]:
    """The names of a weight file's tensors. Raises RunFault where it cannot be read."""
    with _told(file):
        return _names(file)


def _names(file: Path) -> list[str]:
    if file.suffix != ".safetensors":
        return list(_loaded(file))
    with safe_open(file, framework="pt") as stream:
        return list(stream.keys())


@contextmanager
def _told(file: Path) -> Iterator[None]:
    """Within, a file that is cut off, is none of its kind, or lacks what an index says of it, is a fault."""
    try:
        yield
    except UNREADABLE as error:
        raise RunFault("SG441", f"{file} cannot be read: {_reason(error)}") from None


def _named(found: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    if name not in found:
        raise SafetensorError(f"File does not contain tensor {name}")  # as of a safetensors file
    return found[name]


def _loaded(file: Path) -> dict[str, torch.Tensor]:
    """A .bin file's tensors, mapped into memory: nothing in it but tensors is read."""
    found: dict[str, torch.Tensor] = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    return found


def _type(code: str) -> torch.dtype:
    if code not in TYPES:
        raise SafetensorError(f"tensors of the type {code} are not known")
    return TYPES[code]


def _reason(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
