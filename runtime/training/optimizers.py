"""Optimizers as transformers makes them: their packages, the rates of LoRA+, and which of them a run can go on with."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Mapping
from typing import Any

from peft.optimizers import create_loraplus_optimizer
from torch.optim import Optimizer
from transformers import Trainer, TrainingArguments

from runtime.config import Config
from runtime.faults import WRONG, RunFault
from runtime.models.model import require_bitsandbytes
from runtime.unused import BITSANDBYTES

# What a name begins with → the module that it needs, and what brings it
PACKAGES = {
    "adamw_torch_4bit": ("torchao", "torchao"),
    "adamw_torch_8bit": ("torchao", "torchao"),
    "adamw_anyprecision": ("torchdistx", "git+https://github.com/pytorch/torchdistx"),
    "adamw_torch_xla": ("torch_xla", "torch_xla"),
    "adamw_torch_npu_fused": ("torch_npu", "torch-npu"),
    "galore": ("galore_torch", "galore-torch"),
    "apollo": ("apollo_torch", "apollo-torch"),
    "lomo": ("lomo_optim", "lomo-optim"),
    "adalomo": ("lomo_optim", "lomo-optim"),
    "grokadamw": ("grokadamw", "grokadamw"),
    "schedule_free": ("schedulefree", "schedulefree"),
    "stable_adamw": ("optimi", "torch-optimi"),
}
NEEDS_GPU = ("galore_adamw_8bit", "adalomo", "paged_ademamix")  # their code asks for CUDA
# transformers keeps no state of these in a checkpoint, or one that can only be read by running what the file says
LOSES_STATE = ("galore", "apollo", "adalomo", "grokadamw")


def require_optimizer(optimizer: str, *, on_gpu: bool) -> None:
    """Raises RunFault where the optimizer's library is not installed, or its code runs on GPUs only."""
    if optimizer.startswith(NEEDS_GPU) and not on_gpu:
        raise RunFault("SG437", f"train.optimizer: {optimizer} runs on GPUs only", "write optimizer: adamw_torch", exit_code=WRONG)
    if optimizer.startswith(BITSANDBYTES):
        require_bitsandbytes(f"train.optimizer: {optimizer}")
    for start, (module, source) in PACKAGES.items():
        if optimizer.startswith(start) and importlib.util.find_spec(module) is None:
            message = f"train.optimizer: {optimizer} needs the package {module}, which is not installed"
            raise RunFault("SG437", message, f"pip install {source}", exit_code=WRONG)


def require_resumable(optimizer: str, checkpoint: str) -> None:
    """Raises RunFault where the optimizer's state cannot be had back: the run would end with other weights."""
    if optimizer.startswith(LOSES_STATE):
        message = f"training cannot go on from {checkpoint}: checkpoints do not hold the state of {optimizer}"
        hint = "begin anew in another --runs-dir, or with an optimizer that can: docs/training.md"
        raise RunFault("SG438", message, hint, exit_code=WRONG)


def optim_args_text(arguments: Mapping[str, Any]) -> str | None:
    """`optim_args` as transformers reads them: name=value, with commas between."""
    return ",".join(f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in arguments.items()) or None


def trainer_options(config: Config, arguments: TrainingArguments) -> dict[str, Any]:
    """What Trainer is told beside its arguments: for LoRA+, who makes the optimizer of the model's parameters."""
    if config.adapter is None or config.adapter.loraplus_lr_ratio is None:
        return {}
    made = functools.partial(loraplus, arguments=arguments, ratio=config.adapter.loraplus_lr_ratio)
    return {"optimizer_cls_and_kwargs": (lambda: made, {})}


def loraplus(model: Any, *, arguments: TrainingArguments, ratio: float) -> Optimizer:
    """The optimizer of a config's name with LoRA+'s rates (arXiv 2402.12354), by peft: lora_B at `ratio` times the rate."""
    optimizer_class, options = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    options.pop("weight_decay", None)  # the schedule-free ones have it here, too
    rate = options.pop("lr")
    made: Optimizer = create_loraplus_optimizer(
        model, optimizer_class, lr=rate, loraplus_lr_ratio=ratio, loraplus_weight_decay=arguments.weight_decay, **options
    )
    return made
