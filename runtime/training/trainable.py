"""What is trained of the base model: a LoRA adapter beside its frozen weights, or all of them, or some."""

from __future__ import annotations

import functools
import itertools
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training

from runtime.config import Config, LoraAdapter
from runtime.faults import WRONG, RunFault
from runtime.models.model import folder_of_model, require_modules
from runtime.training.initial import ADAPTER, initialise, peft_name, weights_of
from runtime.vision.always import look_always
from runtime.vision.parts import LANGUAGE, NOTHING, adapter_of, patterns_of, targets_of, within_language_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def autocasts(config: Config) -> bool:
    """Whether the arithmetic is in 16 bits by autocast; DeepSpeed casts the whole model instead."""
    return config.model.dtype != "float32" and not config.distributed.zero_stage


def weights_dtype(config: Config) -> str:
    """The type in which the base model is loaded. Weights that are all trained are float32, and autocast computes in
    16 bits; DeepSpeed keeps float32 copies of its own."""
    return "float32" if adapter_of(config) is None and not config.distributed.zero_stage else config.model.dtype


def prepared(config: Config, model: PreTrainedModel, taken: Path | None = None) -> PreTrainedModel | PeftModel:
    """The base model, whose weights are frozen, made ready to be trained. Raises RunFault where a name matches no module.

    `taken` is the file that tells what the adapter's initial weights took out of the base, or will tell it. Without one an
    adapter begins as no change, whatever the config says: its shapes are the same.
    """
    torch.manual_seed(config.train.seed)
    if config.model.vision is not None:
        look_always(model)
    lora = adapter_of(config)
    if lora is None:
        return _unfrozen(config, model)
    adapted = _adapted(config, lora, model, initial=taken is not None)
    if taken is not None and lora.init_lora_weights not in ("default", "gaussian", "orthogonal"):
        initialise(adapted, lora, weights_of(folder_of_model(config.model)), taken)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # peft leaves copies of whole modules in the base's 16 bits
    return adapted


def _unfrozen(config: Config, model: PreTrainedModel) -> PreTrainedModel:
    """The model with what is trained of it unfrozen: all, or what trainable_modules names."""
    wanted = config.train.trainable_modules
    if not wanted:
        return model.requires_grad_(True)
    parameters = list(model.named_parameters(remove_duplicate=False))  # an output layer that is the embedding has its name, too
    for name in wanted:
        if not any(is_named(name, parameter) for parameter, _ in parameters):
            raise RunFault("SG607", f"trainable_modules names {name}, which matches 0 modules of the base model", exit_code=WRONG)
    for parameter, tensor in parameters:
        if any(is_named(name, parameter) for name in wanted):
            tensor.requires_grad = True
    if config.train.gradient_checkpointing:
        _require_input_grads(config, model)
    if config.model.vision is not None:  # by default transformers writes LLaVA's names of before, which a resumed Trainer does not know
        model.save_pretrained = functools.partial(model.save_pretrained, save_original_format=False)
    return model


def _require_input_grads(config: Config, model: PreTrainedModel) -> None:
    """Gradients of what goes into the layers. Of a vision tower they would be worked out as well, and nobody asks for them."""
    (model if config.model.vision is None else model.get_submodule(f"model.{LANGUAGE}")).enable_input_require_grads()


def is_named(pattern: str, parameter: str) -> bool:
    """Whether a parameter, or a module that it is in, has that name, or one that ends in a dot and it; '*', '?' and '[0-9]' as in
    a shell."""
    paths = itertools.accumulate(parameter.split("."), "{}.{}".format)
    return any(fnmatchcase(path, pattern) or fnmatchcase(path, f"*.{pattern}") for path in paths)


def _adapted(config: Config, lora: LoraAdapter, model: PreTrainedModel, *, initial: bool) -> PeftModel:
    names = [name for name, _ in model.named_modules()]
    targets = () if isinstance(lora.targets, str) else lora.targets
    words = names if config.model.vision is None else within_language_model(names)
    require_modules("SG241", "the target {name} matches 0 modules of the base model", words, targets)
    require_modules("SG244", "modules_to_save names {name}, which matches 0 modules of the base model", names, lora.modules_to_save)
    require_modules("SG604", "exclude_modules names {name}, which matches 0 modules of the base model", names, lora.exclude_modules)
    checkpointing = config.train.gradient_checkpointing
    if config.model.quantization is not None:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=checkpointing and config.model.vision is None)
    if checkpointing and (config.model.quantization is None or config.model.vision is not None):
        _require_input_grads(config, model)
    adapted = get_peft_model(model, lora_settings(lora, model, initial=initial, sees=config.model.vision is not None))
    settings = adapted.peft_config[ADAPTER]
    settings.init_lora_weights = True  # or who loads the folder takes it out of the base once more
    if settings.target_parameters:  # peft makes them of all-linear where experts lie in one tensor
        message = f"targets: {lora.targets} adapts experts ({', '.join(sorted(settings.target_parameters))}), which no merge knows"
        others = sorted({name.rpartition(".")[2] for name in settings.target_modules})
        raise RunFault("SG467", message, f"write adapter.lora.targets: [{', '.join(others)}]", exit_code=WRONG)
    return adapted


def lora_settings(lora: LoraAdapter, model: PreTrainedModel, *, initial: bool, sees: bool = False) -> LoraConfig:
    """The adapter in peft's terms. Of a model that `sees` the modules are named whole: tower and language model call theirs alike."""
    ranks, alphas = patterns_of(lora)
    every_layer = lora.layers_to_transform is None or sees
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=_targets_that_see(lora, model) if sees else _targets(lora, model),
        exclude_modules=None if sees else list(lora.exclude_modules) or None,
        layers_to_transform=None if every_layer else list(lora.layers_to_transform or ()),
        rank_pattern=ranks,
        alpha_pattern=alphas,
        init_lora_weights=peft_name(lora) if initial else True,
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
        modules_to_save=list(lora.modules_to_save) or None,
        task_type="CAUSAL_LM",
    )


def _targets_that_see(lora: LoraAdapter, model: PreTrainedModel) -> list[str] | str:
    return targets_of(lora, model) if lora.targets or lora.vision_tower else NOTHING


def _targets(lora: LoraAdapter, model: PreTrainedModel) -> list[str] | str:
    """peft's target_modules: with layers_to_transform it takes no all-linear, so the linear layers are named."""
    if not isinstance(lora.targets, str):
        return list(lora.targets)
    if lora.layers_to_transform is None:
        return lora.targets
    output = model.get_output_embeddings()
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and module is not output]
    return sorted({name.rpartition(".")[2] for name in linear})
