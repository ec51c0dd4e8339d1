"""The contract of a training run: everything that its weights depend on, key by key as the spec writes it.

An unfinished run, and each of its checkpoints, holds the contract that it was made under. What differs from today's is named; of
each difference it is known here whether a run can go on with it. What is not known to be safe is not.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from runtime import console
from runtime.config import Config, TrainConfig
from runtime.models.base import base_name, identity_of_model
from runtime.stages import versions
from runtime.training.schedule import without_counts

CONTRACT = "contract.json"
LIBRARIES = ("torch", "transformers", "peft", "accelerate")

Contract = Mapping[str, Any]

# What follows from other keys. Epochs and steps are in the contract as the spec says them.
DERIVED = ("gradient_accumulation_steps", "steps_per_epoch", "total_steps", "world_size", "warmup_ratio", "ddp_timeout", "image_tokens")

# Where a run can go on: the keys, as shell patterns, and how. The first match counts.
SAFE: dict[str, str] = {
    "train.learning_rate": "from the next step on, along the schedule",
    "train.schedule": "the rates of the new one, from the next step on",
    "train.lr_scheduler_kwargs*": "the rates of the new schedule, from the next step on",
    "train.warmup_steps": "the rates of the new schedule, from the next step on",
    "train.epochs": "the schedule is counted over the new length",
    "train.max_steps": "the schedule is counted over the new length",
    "train.weight_decay": "from the next step on",
    "train.adam_beta1": "from the next step on",
    "train.adam_beta2": "from the next step on",
    "train.adam_epsilon": "from the next step on",
    "train.max_grad_norm": "from the next step on",
    "train.label_smoothing_factor": "from the next step on",
    "train.neftune_noise_alpha": "from the next step on",
    "adapter.lora.dropout": "from the next step on",
    "train.micro_batch_size": "the same rows in each optimizer step",
    "distributed.nodes": "the same rows in each optimizer step, shared out anew",
    "distributed.processes_per_node": "the same rows in each optimizer step, shared out anew",
    "train.gradient_checkpointing": "the same result, in other memory",
    "train.torch_compile": "equal up to rounding",
    "train.use_liger_kernel": "equal up to rounding",
    "model.attention": "equal up to rounding",
    "train.eval_steps": "evaluations up to here stay as they are",
    "train.load_best_model_at_end": "the best of the evaluations up to here counts, too, where its checkpoint is there",
    "train.early_stopping*": "its count begins here",
    "train.loss_spike*": "its window begins here",
    "data.limits.*": "the rows are the same",
    "versions.*": "equal up to rounding",
}

# Why a run cannot go on; what is in neither list is refused as unknown.
UNSAFE: dict[str, str] = {
    "model.*": "the weights so far were trained on another model",
    "adapter*": "the weights so far have another form",
    "template*": "the rows so far were other tokens",
    "data.*": "the rows and their order are others: some would be trained twice, some never",
    "train.objective": "the rows so far were other tokens",
    "train.seed": "the rows are in another order",
    "train.group_by_length": "the rows are in another order",
    "train.batch_size": "the place in the data is counted in steps of so many rows",
    "train.optim*": "the optimizer's state has another form",
    "train.trainable_modules": "the optimizer's state is of other weights",
    "distributed.*": "the checkpoints have another form",
}
MOST_SHOWN = 60  # letters of a value
PLATEAU = "reduce_lr_on_plateau"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One key that is not as it was. `how` a run can go on with it, or None; then `why` not."""

    key: str
    before: Any
    now: Any
    how: str | None
    why: str | None

    def line(self, *, told: bool) -> str:
        """`  key  old → new`, and with `told` what is made of it."""
        said = self.how if self.how is not None else f"not possible: {self.why}"
        return f"  {self.key}: {_shown(self.before)} → {_shown(self.now)}" + (f"  ({said})" if told else "")


def contract_of(config: Config, *, rows: str | None) -> dict[str, Any]:
    """The contract of the train stage. `rows` is the hash of what the data stage made, None where that is not known yet."""
    named = {
        "model": config.model,
        "template": config.template,
        "adapter": config.adapter,
        "data": without_counts(config.data),
        "train": what_changes_weights(config.train),
        "distributed": replace(config.distributed, nvme_path=None),
    }
    keys = {key: value for name, part in named.items() for key, value in _flat(name, part) if key.rpartition(".")[2] not in DERIVED}
    del keys["train.preview"], keys["train.save_steps"], keys["train.save_total_limit"], keys["train.report_to"]
    files = json.dumps(identity_of_model(config.model), sort_keys=True)
    libraries = (*LIBRARIES, "deepspeed") if config.distributed.zero_stage else LIBRARIES
    return {
        **{key: value for key, value in keys.items() if not key.startswith("model.base.")},
        "model.base": base_name(config.model.base),
        "model.files": hashlib.sha256(files.encode()).hexdigest()[:16],
        "data.rows_sha256": rows,
        **{f"versions.{name}": number for name, number in versions(libraries).items()},
    }


def what_changes_weights(train: TrainConfig) -> TrainConfig:
    """The settings without those that only watch, keep or report. An evaluation changes nothing but what asks for its loss."""
    asked = train.load_best_model_at_end or train.early_stopping is not None or train.schedule == PLATEAU
    eval_steps = train.eval_steps if asked else None
    return replace(train, preview=None, save_steps=0, save_total_limit=0, report_to=(), eval_steps=eval_steps)


def differences(before: Contract, now: Contract) -> list[Difference]:
    """All keys that are not as they were, in the order of the spec. What one of the two does not know yet is no difference."""
    keys = [*now, *(key for key in before if key not in now)]
    unknown = {key for key in ("data.rows_sha256", "train.warmup_steps") if now.get(key) is None or before.get(key) is None}
    changed = [key for key in keys if key not in unknown and before.get(key) != now.get(key)]
    plateau = PLATEAU in (before.get("train.schedule"), now.get("train.schedule"))
    return [_difference(key, before.get(key), now.get(key), plateau=plateau) for key in changed]


def read(folder: Path) -> dict[str, Any]:
    """The contract that a folder holds; empty where it holds none."""
    try:
        contract: dict[str, Any] = json.loads((folder / CONTRACT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return contract


def made_under(weights: Path) -> dict[str, Any]:
    """The contract of the run that left these weights, a checkpoint or the last ones; empty for any other folder."""
    return read(weights) or read(weights.absolute().parent)


def _difference(key: str, before: Any, now: Any, *, plateau: bool) -> Difference:
    how = _first(SAFE, key)
    why = None if how is not None else _first(UNSAFE, key) or "nothing is known of going on with another one"
    if plateau and key in ("train.learning_rate", "train.schedule"):
        how, why = None, f"the rate of {PLATEAU} is a part of its state"
    return Difference(key=key, before=before, now=now, how=how, why=why)


def _first(table: Mapping[str, str], key: str) -> str | None:
    return next((said for pattern, said in table.items() if fnmatch.fnmatchcase(key, pattern)), None)


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Dotted key and value of everything within, variants by their tag as in the spec; a list of scalars is one value."""
    if is_dataclass(value) and not isinstance(value, type):
        tag = getattr(value, "TAG", None)
        for field in fields(value):
            yield from _flat(f"{path}.{tag}.{field.name}" if tag else f"{path}.{field.name}", getattr(value, field.name))
    elif isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(f"{path}.{key}", item)
    elif isinstance(value, tuple) and any(is_dataclass(item) for item in value):
        for index, item in enumerate(value):
            yield from _flat(f"{path}[{index}]", item)
    else:
        yield path, list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    many = isinstance(value, list) and len(text) > MOST_SHOWN
    return console.one_line(text, MOST_SHOWN) + (f" ({len(value)} values)" if many else "")
