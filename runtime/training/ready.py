"""What training takes, made ready: the model with what is trained of it, its attention, and how rows become batches."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from runtime.config import Config
from runtime.data.dataset import InLine, Packs, Rows, collate
from runtime.models.model import load_config, load_model, load_tokenizer
from runtime.training import by_rows, isolation
from runtime.training.attention import BY_ROWS, FLASH, Attention, attention_for
from runtime.training.initial import TAKEN
from runtime.training.trainable import prepared, weights_dtype
from runtime.vision.looking import eyes_of

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """`collate` makes a batch of rows, or of packs, as the attention takes it."""

    tokenizer: PreTrainedTokenizerBase
    model: PreTrainedModel | PeftModel
    attention: Attention
    collate: Callable[..., dict[str, torch.Tensor]]


def made_ready(config: Config, rows: Rows | Packs, out: Path, device: torch.device) -> Ready:
    """Loads the base model and prepares it. Raises RunFault where the spec asks for what it does not have."""
    by_rows.register()
    tokenizer = load_tokenizer(config.model, config.template)
    picked = functools.partial(attention_for, config.model, load_config(config.model), longest=rows.longest, device=device)
    attention = picked(in_line=_can_lie_in_line(config))
    base = load_model(config.model, device=device, attention=attention.name, dtype=weights_dtype(config))
    model = prepared(config, base, out / TAKEN)
    if attention.name == BY_ROWS and not isolation.is_kept(model):
        attention = picked()
        base.set_attn_implementation(attention.name)
    in_line: InLine = "all" if attention.name == BY_ROWS else "packs" if attention.name in FLASH else "nothing"
    options: dict[str, Any] = {"pad_id": int(tokenizer.pad_token_id), "in_line": in_line, "look": eyes_of(config)}
    return Ready(tokenizer=tokenizer, model=model, attention=attention, collate=functools.partial(collate, **options))


def _can_lie_in_line(config: Config) -> bool:
    """Whether a batch is one process's own, of words alone: accelerate counts rows where processes share them out."""
    is_alone = config.distributed.world_size == 1 and not config.distributed.zero_stage
    return is_alone and config.model.vision is None and not config.train.torch_compile
