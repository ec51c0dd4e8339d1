"""Folders of weights, written tensor by tensor: of a model of any size only one tensor is in memory.

The safetensors library writes a file from tensors that are all in memory. Its format is short enough to be written in order: eight
bytes with the header's length, the header (JSON: name → type, shape, place), the tensors one behind the other.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards

from runtime.faults import RunFault
from runtime.weights.shards import CODES

Kind = tuple[list[int], torch.dtype]
CHUNK = 1 << 22  # numbers that are turned and written at once
ALIGN = 8
NAMES = {
    ("model", "safetensors"): ("model", "safetensors"),
    ("model", "bin"): ("pytorch_model", "bin"),
    ("adapter", "safetensors"): ("adapter_model", "safetensors"),
    ("adapter", "bin"): ("adapter_model", "bin"),
}


def write_weights(
    kinds: dict[str, Kind],
    value: Callable[[str], torch.Tensor],
    out: Path,
    *,
    max_shard_size: str,
    form: str = "safetensors",
    of: str = "model",
    hint: str | None = None,
) -> int:
    """Writes tensors of these kinds, each asked for by its name when its turn comes; returns their bytes. `of` is model or adapter.

    Raises RunFault where one is empty or not finite in its type; `hint` says what helps. A .bin file needs the memory of a shard.
    """
    stem, suffix = NAMES[of, form]
    planned = {name: torch.empty(shape, dtype=dtype, device="meta") for name, (shape, dtype) in kinds.items()}
    split = split_torch_state_dict_into_shards(planned, max_shard_size=max_shard_size, filename_pattern=f"{stem}{{suffix}}.{suffix}")
    for file, names in split.filename_to_tensors.items():
        shard = {name: kinds[name] for name in names}
        if form == "safetensors":
            _write_safetensors(out / file, shard, value, hint)
        else:
            torch.save({name: _sound(name, value(name).to(dtype), hint).clone() for name, (_, dtype) in shard.items()}, out / file)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (out / f"{stem}.{suffix}.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return sum(tensor.numel() * tensor.element_size() for tensor in planned.values())


def _write_safetensors(file: Path, kinds: dict[str, Kind], value: Callable[[str], torch.Tensor], hint: str | None) -> None:
    """As the library lays a file out: larger types first, then by name, each tensor at a multiple of its type's size."""
    order = sorted(kinds, key=lambda name: (-kinds[name][1].itemsize, name))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in order:
        shape, dtype = kinds[name]
        begin, end = end, end + torch.Size(shape).numel() * dtype.itemsize
        header[name] = {"dtype": CODES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGN)
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for name in order:
            shape, dtype = kinds[name]
            tensor = value(name)
            assert list(tensor.shape) == list(shape), name
            flat = tensor.contiguous().view(-1)
            del tensor
            if flat.numel() == 0:
                _sound(name, flat.to(dtype), hint)
            for part in flat.split(CHUNK):
                stream.write(memoryview(_sound(name, part.to(dtype), hint).cpu().view(torch.uint8).numpy()))
            del flat


def _sound(name: str, tensor: torch.Tensor, hint: str | None) -> torch.Tensor:
    known = tensor.float() if tensor.is_floating_point() and tensor.itemsize == 1 else tensor  # PyTorch orders no numbers of 8 bits
    if tensor.numel() == 0 or (tensor.is_floating_point() and not all(end.isfinite() for end in known.aminmax())):  # NaN is both ends
        of = str(tensor.dtype).removeprefix("torch.")
        raise RunFault("SG443", f"{name} is empty or not finite in {of}", hint if tensor.numel() and of == "float16" else None)
    return tensor
