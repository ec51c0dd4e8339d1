"""Initial adapter weights that take something out of the base model: PiSSA and OLoRA (peft's), and LoftQ.

PiSSA and OLoRA begin with a part of each weight W and leave the rest in the base: W = rest + s B A, s the adapter's scaling.
LoftQ begins with what quantization lost: W = nf4(W - s B' A') + s B A, where B' A' are the factors of the round before, none in
the first. What was taken out of the base (A and s B, or A' and s B') is kept beside the checkpoints. A run that goes on takes
exactly that out again; the export of PiSSA and OLoRA puts it back, so that the adapter fits the untouched base; the merge of
LoftQ takes it out of the weights before it quantizes them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.utils.integrations import dequantize_module_weight
from safetensors.torch import load_file, save_file

from runtime.config import LoraAdapter
from runtime.faults import RunFault
from runtime.training.trained_on import takes_from_base
from runtime.weights.adapters import PREFIX
from runtime.weights.shards import files_of, tensors

if TYPE_CHECKING:
    from torch import nn

ADAPTER = "default"
TAKEN = "taken_from_base.safetensors"

Taken = dict[str, tuple[torch.Tensor, torch.Tensor]]
Weights = Callable[[str], torch.Tensor]


def peft_name(lora: LoraAdapter) -> bool | str:
    """What peft's init_lora_weights is set to; LoftQ's weights are put in afterwards."""
    return True if lora.init_lora_weights in ("default", "loftq") else lora.init_lora_weights


def weights_of(folder: Path) -> Weights:
    """Reads the weights of a Hugging Face folder, one at a time. Raises RunFault for a name that it has not."""
    where = files_of(folder, "the base model's weights")

    def read(name: str) -> torch.Tensor:
        if name not in where:
            raise RunFault("SG441", f"the base model's weights in {folder} have no {name}")
        return next(tensors(where, [name]))[1]

    return read


@torch.no_grad()
def initialise(model: PeftModel, lora: LoraAdapter, weights: Weights, file: Path) -> None:
    """Puts the initial weights of PiSSA, OLoRA or LoftQ into a fresh adapter and their rest into the base, the same again where
    `file` says what was taken; else writes that. Does nothing for other methods."""
    taken = read_taken(file)
    if takes_from_base(lora.init_lora_weights):
        taken = taken or taken_by(model)
        begin_with(model, taken, weights)
    elif lora.init_lora_weights == "loftq":
        taken = loftq(model, weights, lora.loftq_iter, taken)
    if taken and not file.exists():
        write_taken(taken, file)


def taken_by(model: PeftModel) -> Taken:
    """What peft has taken for a fresh PiSSA or OLoRA adapter: module → A [r, I] and s B [O, r], float32."""
    return {
        name: (layer.lora_A[ADAPTER].weight.detach().float(), layer.scaling[ADAPTER] * layer.lora_B[ADAPTER].weight.detach().float())
        for name, layer in adapted_layers(model)
    }


def begin_with(model: PeftModel, taken: Taken, weights: Weights) -> None:
    """Takes it out of the base's weights as its files have them: peft's own rest misses what the adapter lost when peft then
    rounded it to the base's 16 bits."""
    for name, layer in adapted_layers(model):
        take_out(layer.get_base_layer(), weights(f"{name}.weight"), *taken[name])
        _set_factors(layer, *taken[name])


def loftq(model: PeftModel, weights: Weights, iterations: int, taken: Taken) -> Taken:
    """Begins with what quantization lost (arXiv 2310.08659, algorithm 1); returns what was taken out before the last
    quantization, nothing after one iteration: then the base is the plain quantized one.

    peft's replace_lora_weights_loftq does one iteration, on GPUs only, and leaves the scaling out: its adapter adds s times the
    loss. peft's LoftQConfig expects a base that is not quantized, and keeps it in full precision.
    """
    found: Taken = {}
    for name, layer in adapted_layers(model):
        base, rank, weight_OI = layer.get_base_layer(), layer.r[ADAPTER], weights(f"{name}.weight")
        if name in taken:
            found[name] = taken[name]
            take_out(base, weight_OI, *taken[name])
        both = factors(_lost(base, weight_OI), rank)
        for _ in range(iterations - 1 if name not in taken else 0):
            found[name] = both
            take_out(base, weight_OI, *both)
            both = factors(_lost(base, weight_OI), rank)
        _set_factors(layer, *both)
    return found


def take_out(base: nn.Module, weight_OI: torch.Tensor, first_RI: torch.Tensor, second_OR: torch.Tensor) -> None:
    """Leaves W - s B A in a linear layer, in the layer's own dtype or quantized as the layer is."""
    old: Any = base.weight
    rest_OI = weight_OI.to(old.device, torch.float32) - second_OR.to(old.device) @ first_RI.to(old.device)
    if not hasattr(old, "quant_state"):
        old.data = rest_OI.to(old.dtype)
        return
    options = {name: getattr(old, name) for name in ("blocksize", "compress_statistics", "quant_type", "quant_storage")}
    base.weight = type(old)(rest_OI.to(old.quant_state.dtype).cpu(), **options, module=base).to(old.device)


def factors(matrix_OI: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The A [r, I] and B [O, r] whose product is nearest to a matrix, each with the root of the singular values."""
    left_OK, values_K, right_KI = torch.linalg.svd(matrix_OI, full_matrices=False)
    root_R = values_K[:rank].sqrt()
    return root_R[:, None] * right_KI[:rank], left_OK[:, :rank] * root_R


def adapted_layers(model: PeftModel) -> Iterator[tuple[str, LoraLayer]]:
    """The adapted modules by their names in the base model."""
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            yield name.removeprefix(PREFIX), module


def write_taken(taken: Taken, file: Path) -> None:
    """Writes it whole or not at all; every process may do so, and writes the same."""
    named = {f"{name}.{part}": tensor.cpu().contiguous() for name, both in taken.items() for part, tensor in zip("AB", both, strict=True)}
    handle, partial = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    os.close(handle)
    save_file(named, partial, metadata={"format": "pt"})
    Path(partial).replace(file)


def read_taken(file: Path) -> Taken:
    """What was taken from the base; nothing where there is no file."""
    found = load_file(file) if file.exists() else {}
    names = [name.removesuffix(".A") for name in found if name.endswith(".A")]
    return {name: (found[f"{name}.A"], found[f"{name}.B"]) for name in names}


def _set_factors(layer: LoraLayer, first_RI: torch.Tensor, second_OR: torch.Tensor) -> None:
    lora_A, lora_B, scaling = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight, layer.scaling[ADAPTER]
    lora_A.data = first_RI.to(lora_A.device).contiguous()
    lora_B.data = (second_OR.to(lora_B.device) / scaling).contiguous()
    if ADAPTER in layer.lora_magnitude_vector:  # DoRA's lengths are those of the base and the adapter together
        lengths: Any = layer.lora_magnitude_vector[ADAPTER]
        lengths.update_layer(base_layer=layer.get_base_layer(), lora_A=lora_A, lora_B=lora_B, scaling=scaling)


def _lost(base: nn.Module, weight_OI: torch.Tensor) -> torch.Tensor:
    """What quantization lost of a weight, float32."""
    return weight_OI.to(base.weight.device, torch.float32) - dequantize_module_weight(base).float()
