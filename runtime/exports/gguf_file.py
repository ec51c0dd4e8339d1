"""A merged folder → a GGUF file, tensor by tensor: at most one of them is in memory."""

from __future__ import annotations

import math
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.exports.gguf_model import add_settings, architecture_of, arranged, extra_tensors, names_of
from runtime.exports.gguf_tokens import add_tokenizer
from runtime.faults import RunFault
from runtime.tokens.text_format import RowFormat
from runtime.weights.shards import files_of, shapes, tensors

if TYPE_CHECKING:
    import torch
    from gguf import GGMLQuantizationType, GGUFWriter
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

BLOCK = 32  # numbers that q8_0 scales together
LARGEST_FLOAT16 = 65504.0
MOST = {
    "f32": 0.0,
    "f16": 2.0**-11,
    "q8_0": 0.5 / 127 + 2.0**-11,
}  # what a type may be off, as a share of a tensor's largest value; a scale of q8_0 is a float16


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
) -> float:
    """Writes `out`, as f16 or q8_0; returns how far it is off, as a share of the largest value of the tensor that is off most.

    `about` are texts for its head, such as license. Raises RunFault where it cannot be right.
    """
    from gguf import GGUFWriter, LlamaFileType

    with closing(GGUFWriter(out, architecture_of(settings))) as writer:
        writer.add_type("model")
        writer.add_name(name)
        for key, value in about.items():
            getattr(writer, f"add_{key}")(value)
        writer.add_file_type(LlamaFileType.MOSTLY_F16 if kind == "f16" else LlamaFileType.MOSTLY_Q8_0)
        writer.add_quantization_version(2)
        add_settings(writer, settings)
        add_tokenizer(writer, tokenizer, form, vocab_size=settings.vocab_size)
        return _write_tensors(writer, merged, settings, kind)


def _write_tensors(writer: GGUFWriter, merged: Path, settings: PreTrainedConfig, kind: str) -> float:
    where = files_of(merged, "the merged model")
    rename = names_of(settings)
    named = {name: new for name in sorted(where) if (new := rename(name)) is not None}
    kinds = {name: kind_of(shape, kind) for name, shape in shapes(where)}
    for name, tensor in extra_tensors(settings):
        _announce(writer, name, list(tensor.shape), "f32")
    for name, shape in shapes({name: where[name] for name in named}):
        _announce(writer, named[name], shape, kinds[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, tensor in extra_tensors(settings):
        writer.write_tensor_data(_encoded(name, tensor, "f32")[0])
    farthest = 0.0
    for name, tensor in tensors(where, named):
        stored, off = _encoded(name, arranged(name, tensor, settings), kinds[name])
        writer.write_tensor_data(stored)
        farthest = max(farthest, off)
    return farthest


def kind_of(shape: list[int], kind: str) -> str:
    """How a tensor is stored: vectors in float32, matrices as asked, where their rows divide into blocks."""
    if len(shape) == 1:
        return "f32"
    return kind if kind != "q8_0" or shape[-1] % BLOCK == 0 else "f16"


def _announce(writer: GGUFWriter, name: str, shape: list[int], kind: str) -> None:
    import numpy as np
    from gguf import GGML_QUANT_SIZES

    block, block_bytes = GGML_QUANT_SIZES[_type(kind)]
    size = math.prod(shape) // block * block_bytes
    writer.add_tensor_info(name, shape, np.dtype(np.float32), size, raw_dtype=_type(kind))


def _type(kind: str) -> GGMLQuantizationType:
    from gguf import GGMLQuantizationType

    return GGMLQuantizationType[kind.upper()]


def _encoded(name: str, tensor: torch.Tensor, kind: str) -> tuple[Any, float]:
    """A tensor as it is stored, and how far that is off. Raises RunFault where the type cannot hold its values."""
    import numpy as np
    from gguf.quants import dequantize, quantize

    values = tensor.float().contiguous().numpy()
    largest = float(np.abs(values).max(initial=0.0))
    if not math.isfinite(largest):
        hint = "look at the losses of the run: a lower train.learning_rate is the usual cure"
        raise RunFault("SG478", f"{name} has values that are not finite, which no type holds", hint)
    if kind == "f16" and largest > LARGEST_FLOAT16:
        message = f"{name} has values beyond 65,504: float16 cannot hold them"
        raise RunFault("SG478", message, "write export.gguf: {types: [q8_0]}")
    stored = quantize(values, _type(kind))
    off = float(np.abs(dequantize(stored, _type(kind)).reshape(values.shape) - values).max(initial=0.0)) / (largest or 1.0)
    if not off <= MOST[kind] + 1e-6:
        raise RunFault("SG478", f"{name} is off by {off:.2g} of its largest value in {kind}: more than rounding")
    return stored, off
