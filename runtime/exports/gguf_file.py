"""A merged folder → a GGUF file, tensor by tensor: at most one of them is in memory. Then read back and compared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from conversations.llama_cpp import ARCHITECTURES
from runtime.exports.gguf_model import add_settings, architecture_of, arranged, extra_tensors, names_of
from runtime.exports.gguf_tokens import add_tokenizer
from runtime.faults import RunFault
from runtime.shards import files_of, shapes, tensors
from runtime.text_format import RowFormat

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGMLQuantizationType, GGUFReader
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

BLOCK = 32  # numbers that q8_0 scales together
LARGEST_FLOAT16 = 65504.0


def write_gguf(
    merged: Path,
    out: Path,
    *,
    kind: str,
    name: str,
    about: dict[str, str],
    settings: PreTrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    form: RowFormat,
) -> None:
    """Writes `out`, as f16 or q8_0. `about` are texts for its head, such as license. Raises RunFault where it cannot be right."""
    from gguf import GGUFWriter, LlamaFileType

    writer = GGUFWriter(out, architecture_of(settings))
    writer.add_type("model")
    writer.add_name(name)
    for key, value in about.items():
        getattr(writer, f"add_{key}")(value)
    writer.add_file_type(LlamaFileType.MOSTLY_F16 if kind == "f16" else LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(2)
    add_settings(writer, settings)
    add_tokenizer(writer, tokenizer, form, vocab_size=settings.vocab_size)
    where = files_of(merged, "the merged model")
    rename = names_of(settings)
    named = {name: new for name in sorted(where) if (new := rename(name)) is not None}
    stored = {name: shape for name, shape in shapes(where) if name in named}
    kinds = {}
    for extra, tensor in extra_tensors(settings):
        _announce(writer, extra, list(tensor.shape), "f32")
    for source, new in named.items():
        kinds[source] = kind_of(stored[source], kind)
        _announce(writer, new, stored[source], kinds[source])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, tensor in extra_tensors(settings):
        writer.write_tensor_data(tensor.numpy())
    for source, tensor in tensors(where, named):
        writer.write_tensor_data(_encoded(source, arranged(source, tensor, settings), kinds[source]))
    writer.close()


def kind_of(shape: list[int], kind: str) -> str:
    """How a tensor is stored: vectors in float32, matrices as asked, where their rows divide into blocks."""
    if len(shape) == 1:
        return "f32"
    return kind if kind != "q8_0" or shape[-1] % BLOCK == 0 else "f16"


def _announce(writer: Any, name: str, shape: list[int], kind: str) -> None:
    import numpy as np
    from gguf import GGML_QUANT_SIZES

    block, block_bytes = GGML_QUANT_SIZES[_type(kind)]
    count = 1
    for size in shape:
        count *= size
    writer.add_tensor_info(name, shape, np.dtype(np.float32), count // block * block_bytes, raw_dtype=_type(kind))


def _type(kind: str) -> GGMLQuantizationType:
    from gguf import GGMLQuantizationType

    return GGMLQuantizationType[kind.upper()]


def _encoded(name: str, tensor: torch.Tensor, kind: str) -> Any:
    """The bytes of a tensor. Raises RunFault where float16 cannot hold a value."""
    from gguf.quants import quantize

    values = tensor.float().contiguous().numpy()
    if kind == "f16" and float(abs(values).max(initial=0.0)) > LARGEST_FLOAT16:
        message = f"{name} has values beyond 65,504, which float16 cannot hold"
        raise RunFault("SG478", message, "write export.gguf: {types: [q8_0]}")
    return quantize(values, _type(kind))


def check_gguf(file: Path, merged: Path, settings: PreTrainedConfig) -> float:
    """Reads a file back, tensor by tensor; returns the largest distance, as a share of each tensor's largest value.

    Raises RunFault where a tensor is missing.
    """
    from gguf import GGUFReader
    from gguf.quants import dequantize

    stored = {tensor.name: tensor for tensor in GGUFReader(file).tensors}
    where = files_of(merged, "the merged model")
    rename = names_of(settings)
    farthest = 0.0
    for name, tensor in tensors(where, sorted(where)):
        if (new := rename(name)) is None:
            continue
        if new not in stored:
            raise RunFault("SG478", f"{file.name} was written without {new}")
        read = torch.from_numpy(dequantize(stored[new].data, stored[new].tensor_type).copy())
        wanted = arranged(name, tensor, settings).float()
        largest = float(wanted.abs().max()) or 1.0
        farthest = max(farthest, float((read.reshape(wanted.shape) - wanted).abs().max()) / largest)
    return farthest
