"""python -m runtime.measure BUILD: what one training step needs, found by running it on tensors without values.

The model is built on the meta device, adapted as for training and given fake tensors; forward, backward and optimizer run
twice, and live bytes are counted. No weight is read and no value computed: a model of any size takes seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
from accelerate.utils.operations import convert_outputs_to_fp32
from peft.helpers import disable_input_dtype_casting
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainingArguments

from runtime import config as configs
from runtime.config import Config, Nf4Quantization
from runtime.faults import RunFault
from runtime.ledger import Ledger
from runtime.loss import trained_positions_loss
from runtime.model import _quantization, attention, folder_of, torch_dtype
from runtime.train import adapted, autocasts

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

STEPS = 2  # an optimizer's state is there from its first step on
BLOCK, OUTER_BLOCK = 64, 256  # bitsandbytes' nf4: values to a scale, and scales to a scale of their own


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A micro batch: rows of one length, of which so many positions are trained; `masked` if attention gets a mask."""

    rows: int
    row_tokens: int
    trained: int
    masked: bool


def largest_batch(config: Config, *, row_tokens: int, trained_share: float) -> Batch:
    """The largest micro batch of a run whose longest row is known."""
    rows = config.train.micro_batch_size
    trained = max(1, round(rows * (row_tokens - 1) * trained_share))
    return Batch(rows=rows, row_tokens=row_tokens, trained=trained, masked=rows > 1 or config.data.packing)


def measure(config: Config, base: PreTrainedConfig, batch: Batch, *, device: str) -> dict[str, int]:
    """Bytes a device at the peak of a training step, by part, before anything is shared out."""
    model = meta_model(config, base, batch)
    ledger = Ledger(selected=batch.trained, answer=not batch.masked)  # asked is: do all positions count, are there no packs
    masks = mock.patch("transformers.masking_utils.is_tracing", return_value=False)  # else masks are made, needed or not
    with FakeTensorMode(allow_non_fake_inputs=True), ledger, masks:
        with ledger.booking("weights"):
            give_storage(model, config, torch.device(device))
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        for parameter in trainable:
            if config.adapter is not None:
                ledger.book(parameter, "adapter")
            parameter.register_post_accumulate_grad_hook(lambda tensor: ledger.book(tensor.grad, "gradients"))
        steps(config, model, trainable, batch, ledger, device=device)
    return dict(ledger.peak)


def meta_model(config: Config, base: PreTrainedConfig, batch: Batch) -> nn.Module:
    """The model as training has it, without storage."""
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            base,
            dtype=torch_dtype(weights_dtype(config)),
            attn_implementation=attention(config.model.attention, longest=batch.row_tokens),
        )
        model.requires_grad_(False)
        if config.model.quantization is not None:
            quantize(model, config)
        wrapped: nn.Module = prepared(config, model)
    if config.train.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    return wrapped.train()


def weights_dtype(config: Config) -> str:
    return "float32" if config.adapter is None and not config.distributed.zero_stage else config.model.dtype


def prepared(config: Config, model: PreTrainedModel) -> nn.Module:
    return model.requires_grad_(True) if config.adapter is None else adapted(config, model)


def quantize(model: PreTrainedModel, config: Config) -> None:
    """Replaces linear layers by bitsandbytes', as transformers does on loading."""
    from transformers.integrations.bitsandbytes import replace_with_bnb_linear

    quantization = config.model.quantization
    assert quantization is not None
    replace_with_bnb_linear(model, list(quantization.skip_modules), _quantization(config.model))
    four_bits = isinstance(quantization, Nf4Quantization)
    setattr(model, "is_loaded_in_4bit" if four_bits else "is_loaded_in_8bit", True)


def give_storage(model: nn.Module, config: Config, device: torch.device) -> None:
    """Fake tensors on a device in the place of all parameters and buffers; shared ones stay shared."""
    given: dict[int, torch.Tensor] = {}
    for module in model.modules():
        for store in (module._parameters, module._buffers):
            for name, tensor in store.items():
                if tensor is not None:
                    store[name] = given.setdefault(id(tensor), like(module, tensor, config, device))


def like(module: nn.Module, tensor: torch.Tensor, config: Config, device: torch.device) -> torch.Tensor:
    if type(tensor).__name__ == "Params4bit":
        return packed(tensor, config, device)
    fake = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
    return nn.Parameter(fake, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else fake


def packed(tensor: torch.Tensor, config: Config, device: torch.device) -> nn.Parameter:
    """A weight in 4 bits with its scales, in the layout of bitsandbytes."""
    from bitsandbytes.functional import QuantState

    quantization = config.model.quantization
    assert isinstance(quantization, Nf4Quantization)

    def empty(count: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(count, dtype=dtype, device=device)

    blocks = -(-tensor.numel() // BLOCK)
    outer = None
    if quantization.double_quant:
        absmax = empty(-(-blocks // OUTER_BLOCK), torch.float32)
        outer = QuantState(absmax=absmax, code=empty(256, torch.float32), blocksize=OUTER_BLOCK, dtype=torch.float32)
    weight = nn.Parameter(empty((tensor.numel() + 1) // 2, torch.uint8)[:, None], requires_grad=False)
    weight.quant_state = QuantState(  # type: ignore[attr-defined]
        absmax=empty(blocks, torch.uint8 if outer else torch.float32),
        shape=tensor.shape,
        code=empty(16, torch.float32),
        blocksize=BLOCK,
        quant_type="nf4",
        dtype=torch_dtype(config.model.dtype),
        offset=torch.empty((), device=device) if outer else None,
        state2=outer,
    )
    return weight


def steps(config: Config, model: Any, trainable: list[nn.Parameter], batch: Batch, ledger: Ledger, *, device: str) -> None:
    """Optimizer steps on one micro batch each, as Trainer and accelerate run them."""
    arguments = TrainingArguments(output_dir="unused", optim=config.train.optimizer, report_to=[])
    with ledger.booking("optimizer"):
        optimizer_class, options = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
        optimizer = optimizer_class(trainable, **options)
    inputs = {
        "input_ids": torch.zeros(batch.rows, batch.row_tokens, dtype=torch.int64, device=device),
        "attention_mask": torch.ones(batch.rows, batch.row_tokens, dtype=torch.int64, device=device),
        "labels": torch.zeros(batch.rows, batch.row_tokens, dtype=torch.int64, device=device),
    }
    output_layer = model.get_output_embeddings()
    if autocasts(config):
        model.forward = convert_outputs_to_fp32(torch.autocast(device, dtype=torch_dtype(config.model.dtype))(model.forward))
    casting: AbstractContextManager[Any] = nullcontext()
    if config.adapter is not None:
        casting = disable_input_dtype_casting(model, active=autocasts(config))
    with casting:
        for _ in range(STEPS):
            for _ in range(min(config.train.gradient_accumulation_steps, 2)):
                trained_positions_loss(model, output_layer, inputs).backward()
            torch.nn.utils.clip_grad_norm_(trainable, config.train.max_grad_norm)
            with ledger.booking("optimizer"):
                optimizer.step()
            optimizer.zero_grad()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m runtime.measure", description="Counts the memory of one training step.")
    parser.add_argument("build", type=Path, metavar="BUILD", help="a folder that specgen compile wrote")
    parser.add_argument("--row-tokens", type=int, default=None, help="tokens of the longest row; default: data.max_length")
    parser.add_argument("--trained-share", type=float, default=1.0, help="share of the tokens that are trained; default: 1")
    arguments = parser.parse_args()
    try:
        config = configs.load(arguments.build)
        base = AutoConfig.from_pretrained(folder_of(config.model.base), trust_remote_code=config.model.trust_remote_code)
    except RunFault as fault:
        print(fault, file=sys.stderr, flush=True)
        return fault.exit_code
    batch = largest_batch(config, row_tokens=arguments.row_tokens or config.data.max_length, trained_share=arguments.trained_share)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(json.dumps(measure(config, base, batch, device=device)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
