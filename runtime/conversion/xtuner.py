"""XTuner's checkpoints: iter_N.pth as a file, or as a folder of DeepSpeed's.

iter_300.pth                                    {state_dict: {llm.base_model.model.….lora_A.default.weight: …}, meta: {cfg: …}}
iter_300.pth/mp_rank_00_model_states.pt         {module: the same names, param_shapes: …}
iter_300.pth/zero_pp_rank_0_mp_rank_00_…        under ZeRO: parts of the float32 weights, one file for each process
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from runtime.conversion import pth
from runtime.faults import WRONG, RunFault

LANGUAGE_MODEL = "llm."
ADAPTER = ".default"
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The language model's trained tensors by peft's or transformers' names, and what the settings in the file say."""

    tensors: Tensors
    alpha: float | None = None
    base: str | None = None
    others: list[str] = field(default_factory=list)

    def is_adapter(self) -> bool:
        """Whether there are weights of LoRA among them."""
        return any(".lora_" in name for name in self.tensors)


def read(checkpoint: Path) -> Weights:
    """The weights of a checkpoint. Raises RunFault where there are none."""
    if checkpoint.is_dir():
        content, whole = _of_folder(checkpoint)
    else:
        content = pth.load(checkpoint)
        whole = _mapping(content.get("state_dict", content))
    named = {name: tensor for name, tensor in whole.items() if isinstance(name, str) and isinstance(tensor, torch.Tensor)}
    tensors = {plain(name): tensor.detach() for name, tensor in named.items() if _is_wanted(name)}
    if not tensors:
        hint = "give iter_N.pth, as XTuner writes it"
        raise RunFault("SG496", f"{checkpoint} holds no weights of a language model", hint, exit_code=WRONG)
    for name, tensor in tensors.items():
        if tensor.numel() == 0:
            raise RunFault("SG443", f"{name} in {checkpoint} is empty", "save it again, gathered from all processes")
        if tensor.ndim == 0:
            raise RunFault("SG496", f"{name} in {checkpoint} is a single number, and no weight", exit_code=WRONG)
    _require_pairs(tensors, checkpoint)
    alpha, base = _settings(content)
    others = sorted({name.partition(".")[0] for name in named if not _is_wanted(name) and ".original_module." not in name})
    return Weights(tensors=tensors, alpha=alpha, base=base, others=others)


def _mapping(found: Any) -> dict[str, Any]:
    """What is named by names; empty where the file has something else there."""
    return dict(found) if isinstance(found, dict) else {}


def _require_pairs(tensors: Tensors, checkpoint: Path) -> None:
    """Raises RunFault where an adapter has one half of a pair."""
    for name in tensors:
        for own, other in ((".lora_A.", ".lora_B."), (".lora_B.", ".lora_A.")):
            if own in name and name.replace(own, other) not in tensors:
                raise RunFault("SG496", f"{checkpoint} has {name}, and no {other.strip('.')} that goes with it", exit_code=WRONG)


def plain(name: str) -> str:
    """XTuner's name of a tensor as peft writes it, or transformers."""
    own = name.removeprefix("module.").removeprefix(LANGUAGE_MODEL)
    if "base_model.model." not in own:
        return own
    for part in (f".modules_to_save{ADAPTER}.", f"{ADAPTER}.", ".base_layer."):
        own = own.replace(part, ".")
    return own.replace(".lora_magnitude_vector.weight", ".lora_magnitude_vector").removesuffix(ADAPTER)


def _is_wanted(name: str) -> bool:
    own = name.removeprefix("module.")
    return own.startswith((LANGUAGE_MODEL, "base_model.", "model.", "lm_head.", "output.")) and ".original_module." not in own


def _settings(content: dict[str, Any]) -> tuple[float | None, str | None]:
    """lora_alpha and the base model's name, from the text of the config that the file carries: it is searched, never run."""
    meta = content.get("meta")
    text = meta.get("cfg") if isinstance(meta, dict) else None
    if not isinstance(text, str):
        return None, None
    alpha = re.search(r"\blora_alpha\s*=\s*([0-9]+(?:\.[0-9]+)?)\s*(?=[,)\n]|$)", text)  # a number, not what is to be computed
    base = re.search(r"\bpretrained_model_name_or_path\s*=\s*['\"]([^'\"]+)['\"]", text)
    return float(alpha[1]) or None if alpha else None, base[1] if base else None


def _of_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A folder of DeepSpeed's: the content of its first file, and the weights, in float32 where its processes' parts are there."""
    states = sorted(folder.glob("*mp_rank_00_model_states.pt"))
    if not states:
        hint = "give a checkpoint-N of ours, a folder as peft or transformers writes it, or iter_N.pth of XTuner"
        raise RunFault("SG496", f"{folder} is no checkpoint: it has neither weights nor *_model_states.pt", hint, exit_code=WRONG)
    content = pth.load(states[0])
    parts = sorted(folder.glob("*zero_pp_rank_*_optim_states.pt"), key=_rank)
    whole = _mapping(content.get("module"))
    if parts:
        whole |= _gathered(content, [_mapping(pth.load(part).get("optimizer_state_dict")) for part in parts], folder)
    return content, whole


def _rank(file: Path) -> int:
    found = re.search(r"zero_pp_rank_(\d+)_", file.name)
    return int(found[1]) if found else 0


def _gathered(content: dict[str, Any], states: list[dict[str, Any]], folder: Path) -> Tensors:
    """The float32 weights from the parts of all processes, as deepspeed.utils.zero_to_fp32 puts them together."""
    count = states[0].get("partition_count")
    world = max(count, default=None) if isinstance(count, list) else count
    if not isinstance(world, int):
        raise RunFault("SG496", f"{folder} cannot be read: its parts do not say how many processes wrote it", exit_code=WRONG)
    if world != len(states):
        message = f"{folder} cannot be read: {world} processes wrote it, and the parts of {len(states)} are there"
        raise RunFault("SG496", message, "bring the other zero_pp_rank files back", exit_code=WRONG)
    shapes = content.get("param_shapes") or []
    groups = shapes if isinstance(shapes, list) else [shapes]
    try:
        if "fp32_flat_groups" in states[0]:  # the stage itself is an enum of DeepSpeed's, and nothing here
            return _of_stage_3({name: shape for group in groups for name, shape in group.items()}, states)
        return _of_stage_2(groups, states)
    except (KeyError, RuntimeError, IndexError, AttributeError, TypeError) as error:
        raise RunFault("SG496", f"{folder} cannot be read: its parts do not make up the weights ({error})") from None


def _of_stage_2(groups: list[dict[str, Any]], states: list[dict[str, Any]]) -> Tensors:
    """ZeRO 1 and 2: each group of parameters lies end to end, and is cut into equal parts."""
    found: Tensors = {}
    paddings = states[0].get("param_alignment_paddings")
    for index, group in enumerate(groups):
        flat = torch.cat([state["single_partition_of_fp32_groups"][index] for state in states])
        offset = 0
        for place, (name, shape) in enumerate(group.items()):
            number = math.prod(shape)
            found[name] = flat.narrow(0, offset, number).view(*shape)
            offset += number + (paddings[index][place] if paddings else 0)
    return found


def _of_stage_3(shapes: dict[str, Any], states: list[dict[str, Any]]) -> Tensors:
    """ZeRO 3: each parameter is cut into equal parts, the last one padded."""
    found: Tensors = {}
    flats = [torch.cat(list(state["fp32_flat_groups"])) for state in states]
    offset = 0
    for name, shape in shapes.items():
        number = math.prod(shape)
        part = math.ceil(number / len(states))
        found[name] = torch.cat([flat.narrow(0, offset, part) for flat in flats]).narrow(0, 0, number).view(*shape)
        offset += part
    return found
