"""python -m runtime.measure BUILD: what one training step needs, found by running it on tensors without values.

The model is built on the meta device, adapted as for training and given fake tensors; forward, backward and optimizer run
twice, and live bytes are counted. No weight is read and no value computed: a model of any size takes seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
from accelerate.utils.operations import convert_outputs_to_fp32
from peft.helpers import disable_input_dtype_casting
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, LlavaModel, Trainer, TrainingArguments

from runtime import config as configs
from runtime.config import Config
from runtime.devices import pick_device
from runtime.faults import exit_code_of
from runtime.internlm2.settings import is_internlm2, llama_settings, read_settings
from runtime.measure.ledger import Ledger
from runtime.measure.packed import quantize, quantized_like
from runtime.models import gguf
from runtime.models.base import locate
from runtime.models.model import numbers_of, torch_dtype
from runtime.starting import quiet
from runtime.training.attention import counted_as
from runtime.training.fused_lora import fused
from runtime.training.loss import ZERO_3, OutputLoss, trained_parts
from runtime.training.optimizers import optim_args_text
from runtime.training.trainable import autocasts, prepared, weights_dtype
from runtime.vision.layout import llava_settings
from runtime.vision.parts import adapter_of
from runtime.vision.sizes import sight_of, tower_settings

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

OF_TORCH = ("adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "adagrad", "rmsprop")
STEPS = 2  # an optimizer's state is there from its first step on


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A micro batch: rows of one length, of which so many positions are trained; `masked` if attention gets a mask."""

    rows: int
    row_tokens: int
    trained: int
    masked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Bytes a device by part at the peak of a step, before anything is shared out; the numbers that are trained, the rows and
    columns of their matrices together, and the parameters of the base model."""

    parts: dict[str, int]
    trained: int
    sides: int
    parameters: int


def largest_batch(config: Config, *, row_tokens: int, trained_share: float) -> Batch:
    """The largest micro batch of a run whose longest row is known."""
    rows = config.train.micro_batch_size
    trained = max(1, round(rows * (row_tokens - 1) * trained_share))
    return Batch(rows=rows, row_tokens=row_tokens, trained=trained, masked=rows > 1 or config.data.packing)


def measure(config: Config, base: PreTrainedConfig, batch: Batch, *, device: torch.device) -> Measured:
    """Two training steps of a model with these settings."""
    model = meta_model(config, base, batch, device)
    # what is asked of masks: do all positions count, are there no packs; unpatched, a mask is made, needed or not
    output_loss = OutputLoss(model)
    output_loss.is_shown = True  # nothing is to be learnt from tensors without values
    if config.distributed.zero_stage == 3 and trained_parts(output_loss.layer):
        output_loss.whole_because = ZERO_3  # no parameter is shared out here
    rows = batch.trained if output_loss.whole_because else min(batch.trained, output_loss.chunk_rows(device))
    ledger = Ledger(selected=batch.trained, answer=not batch.masked, logits=(rows, base.get_text_config().vocab_size))
    masks = mock.patch("transformers.masking_utils.is_tracing", return_value=False)
    images = mock.patch.object(LlavaModel, "get_placeholder_mask", placeholders)
    with FakeTensorMode(allow_non_fake_inputs=True), ledger, masks, images:
        with ledger.booking("weights"):
            give_storage(model, config, device)
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        for parameter in trainable:
            if adapter_of(config) is not None:
                ledger.book(parameter, "adapter")
            parameter.register_post_accumulate_grad_hook(lambda tensor: ledger.book(tensor.grad, "gradients"))
        take_steps(config, model, output_loss, trainable, batch, ledger, device)
    return Measured(
        parts=dict(ledger.peak),
        trained=sum(parameter.numel() for parameter in trainable),
        sides=sum(sum(parameter.shape) for parameter in trainable),
        parameters=base_parameters(model),
    )


def meta_model(config: Config, base: PreTrainedConfig, batch: Batch, device: torch.device) -> nn.Module:
    """The model as training on the device has it, without storage."""
    with torch.device("meta"):
        kind = AutoModelForCausalLM if config.model.vision is None else AutoModelForImageTextToText
        model: PreTrainedModel = kind.from_config(
            base,
            dtype=torch_dtype(weights_dtype(config)),
            attn_implementation=counted_as(config.model, base, longest=batch.row_tokens, device=device),
            trust_remote_code=config.model.trust_remote_code,
        )
        model.requires_grad_(False)
        if config.model.quantization is not None:
            quantize(model, config.model)
        wrapped: nn.Module = prepared(config, model)
    if config.distributed.zero_stage:
        for parameter in wrapped.parameters():  # DeepSpeed casts the whole model
            if parameter.is_floating_point():
                parameter.data = parameter.data.to(torch_dtype(config.model.dtype))
    if config.train.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    return wrapped.train()


def base_parameters(model: nn.Module) -> int:
    """Parameters of the model that an adapter stands beside; packed ones count for what they were."""
    return sum(numbers_of(parameter) for name, parameter in model.named_parameters() if "lora_" not in name)


def give_storage(model: nn.Module, config: Config, device: torch.device) -> None:
    """Fake tensors on a device in the place of all parameters and buffers; shared ones stay shared."""
    given: dict[int, torch.Tensor] = {}
    for module in model.modules():
        for store in (module._parameters, module._buffers):
            for name, tensor in store.items():
                if tensor is not None:
                    store[name] = given.setdefault(id(tensor), fake_like(module, tensor, config, device))


def fake_like(module: nn.Module, tensor: torch.Tensor, config: Config, device: torch.device) -> torch.Tensor:
    """A tensor without values in the place of a real one, of the shape and type that it has once quantized."""
    if config.model.quantization is not None and (packed := quantized_like(module, tensor, config.model, device)) is not None:
        return packed
    fake = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
    return nn.Parameter(fake, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else fake


def take_steps(
    config: Config,
    model: Any,
    output_loss: OutputLoss,
    trainable: list[nn.Parameter],
    batch: Batch,
    ledger: Ledger,
    device: torch.device,
) -> None:
    """Optimizer steps, as Trainer and accelerate run them. The optimizer of ZeRO is left out: it works on shares; and those of other
    libraries: their kernels look at values."""
    left_out = config.distributed.zero_stage or config.train.optimizer not in OF_TORCH
    optimizer = None if left_out else make_optimizer(config, model, trainable, ledger)
    casts = torch.autocast(device.type, dtype=torch_dtype(config.model.dtype), enabled=autocasts(config))
    if autocasts(config):
        model.forward = convert_outputs_to_fp32(casts(model.forward))
    with disable_input_dtype_casting(model, active=autocasts(config)), fused(model, active=not config.train.torch_compile):
        for _ in range(STEPS):
            for _ in range(min(config.train.gradient_accumulation_steps, 2)):
                output_loss(model, inputs_of(config, batch, device)).summed.backward()
            if optimizer is not None:
                torch.nn.utils.clip_grad_norm_(trainable, config.train.max_grad_norm)
                with ledger.booking("optimizer"):
                    optimizer.step()
            for parameter in trainable:
                parameter.grad = None


def make_optimizer(config: Config, model: Any, trainable: list[nn.Parameter], ledger: Ledger) -> torch.optim.Optimizer:
    """The optimizer that Trainer makes for the config's name."""
    own = optim_args_text(config.train.optim_args)
    arguments = TrainingArguments(output_dir="unused", optim=config.train.optimizer, optim_args=own, report_to=[])
    optimizer_class, options = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    with ledger.booking("optimizer"):
        optimizer: torch.optim.Optimizer = optimizer_class(trainable, **options)
    return optimizer


def inputs_of(config: Config, batch: Batch, device: torch.device) -> dict[str, torch.Tensor]:
    """A batch as data/dataset.py collates it: rows with a mask, packs with positions."""
    names = ("input_ids", "position_ids" if config.data.packing else "attention_mask", "labels")
    found = {name: torch.ones(batch.rows, batch.row_tokens, dtype=torch.int64, device=device) for name in names}
    vision = config.model.vision
    if vision is None:
        return found
    sight = sight_of(tower_settings(locate(vision.tower, weights=False)))
    in_a_row = max(1, batch.row_tokens // sight.tokens) if config.data.packing else 1
    return {**found, "pixel_values": torch.ones(batch.rows * in_a_row, 3, sight.image_size, sight.image_size, device=device)}


def placeholders(model: Any, input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
    """Where images stand; transformers' own holds their number against the images, which tensors without values have not."""
    return (input_ids == model.config.image_token_id).unsqueeze(-1)


def base_config(config: Config, own: Path | None) -> PreTrainedConfig:
    """The config of what is trained: the base model's, or LLaVA's of that and of the vision tower's."""
    text, vision = _base_alone(config, own), config.model.vision
    if vision is None:
        return text
    tower = tower_settings(locate(vision.tower, weights=False))
    token, tied = text.vocab_size - 1, bool(text.tie_word_embeddings)
    return AutoConfig.for_model(**llava_settings(text.to_dict(), tower, vision, image_token=token, tied=tied))


def _base_alone(config: Config, own: Path | None) -> PreTrainedConfig:
    """The base model's config: out of a file with the JSON of one, or where the base model lies."""
    trusted, base = config.model.trust_remote_code, config.model.base
    if own is not None:
        return AutoConfig.for_model(**json.loads(own.read_text(encoding="utf-8")))
    path = locate(base, weights=False)
    if is_internlm2(path):
        return AutoConfig.for_model(**llama_settings(read_settings(path)))
    if path.is_file() and not gguf.cached(path).exists():
        return AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    return AutoConfig.from_pretrained(gguf.cached(path) if path.is_file() else path, trust_remote_code=trusted)


def main() -> int:
    """The program: prints the bytes of one training step as JSON. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m runtime.measure", description="Counts the memory of one training step.")
    parser.add_argument("build", type=Path, metavar="BUILD", help="a folder that specgen compile wrote")
    parser.add_argument("--row-tokens", type=int, default=None, help="tokens of the longest row; default: data.max_length")
    parser.add_argument("--trained-share", type=float, default=1.0, help="share of the tokens that are trained; default: 1")
    parser.add_argument("--model-config", type=Path, default=None, help="the base model's config.json, where only that is at hand")
    arguments = parser.parse_args()
    quiet()
    return exit_code_of(lambda: count(arguments))


def count(arguments: argparse.Namespace) -> int:
    """Prints what the step takes. Raises RunFault where the base model is not to be had, or the spec asks for what is not here."""
    config = configs.load(arguments.build)
    base = base_config(config, arguments.model_config)
    batch = largest_batch(config, row_tokens=arguments.row_tokens or config.data.max_length, trained_share=arguments.trained_share)
    found = measure(config, base, batch, device=pick_device(config.hardware.device, setting="hardware.device"))
    print(json.dumps(asdict(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
