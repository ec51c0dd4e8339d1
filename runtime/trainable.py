"""What is trained of the base model: a LoRA adapter beside its frozen weights, or all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training

from runtime.config import Config, LoraAdapter
from runtime.model import require_modules

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def autocasts(config: Config) -> bool:
    """Whether the arithmetic is in 16 bits by autocast; DeepSpeed casts the whole model instead."""
    return config.model.dtype != "float32" and not config.distributed.zero_stage


def weights_dtype(config: Config) -> str:
    """The type in which the base model is loaded. Weights that are all trained are float32, and autocast computes in
    16 bits; DeepSpeed keeps float32 copies of its own."""
    return "float32" if config.adapter is None and not config.distributed.zero_stage else config.model.dtype


def prepared(config: Config, model: PreTrainedModel) -> PreTrainedModel | PeftModel:
    """The base model, whose weights are frozen, made ready to be trained. Raises RunFault where a name matches no module."""
    torch.manual_seed(config.train.seed)
    if config.adapter is None:
        return model.requires_grad_(True)
    return _adapted(config, config.adapter, model)


def _adapted(config: Config, lora: LoraAdapter, model: PreTrainedModel) -> PeftModel:
    names = [name for name, _ in model.named_modules()]
    targets = () if isinstance(lora.targets, str) else lora.targets
    require_modules("SG241", "the target {name} matches 0 modules of the base model", names, targets)
    require_modules("SG244", "modules_to_save names {name}, which matches 0 modules of the base model", names, lora.modules_to_save)
    if config.model.quantization is not None:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=config.train.gradient_checkpointing)
    elif config.train.gradient_checkpointing:
        model.enable_input_require_grads()
    settings = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(targets) or lora.targets,
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
        modules_to_save=list(lora.modules_to_save) or None,
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(model, settings)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # peft leaves copies of whole modules in the base's 16 bits
    return adapted
