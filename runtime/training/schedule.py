"""Rows, batches and optimizer steps as numbers: what the compiler could not know is filled in from the data stage's figures.

The arithmetic is the compiler's (specgen/schedule.py; a test compares them), and that of transformers' Trainer (5.23)
without drop_last: partial batches and partial accumulation groups both count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from runtime.config import BudgetConfig, Config, DataConfig, LlmSource, Source, TrainConfig
from runtime.faults import WRONG, RunFault


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Optimizer steps."""

    per_epoch: int
    total: int
    warmup: int


def updates_per_epoch(examples: int, micro_batch_size: int, accumulation: int, processes: int) -> int:
    """Optimizer steps in one pass over the examples."""
    micro_batches = math.ceil(math.ceil(examples / micro_batch_size) / processes)
    return math.ceil(micro_batches / accumulation)


def steps_of(train: TrainConfig, *, examples: int, processes: int) -> Steps:
    """The steps of a run over so many training examples."""
    per_epoch = updates_per_epoch(examples, train.micro_batch_size, train.gradient_accumulation_steps, processes)
    total = train.max_steps
    if total is None:
        assert train.epochs is not None
        total = math.ceil(train.epochs * per_epoch)
    warmup = train.warmup_steps
    if warmup is None:
        assert train.warmup_ratio is not None
        warmup = min(math.ceil(train.warmup_ratio * total), total - 1 if train.warmup_ratio < 1 else total)
    return Steps(per_epoch=per_epoch, total=total, warmup=warmup)


def settled(config: Config, figures: Mapping[str, Any]) -> Config:
    """The config with every number that the data stage found. Raises RunFault where the config says another."""
    steps = steps_of(config.train, examples=figures["examples"], processes=config.distributed.world_size)
    data = _settled_data(config.data, figures)
    train = replace(config.train, steps_per_epoch=steps.per_epoch, total_steps=steps.total, warmup_steps=steps.warmup, warmup_ratio=None)
    both = replace(config, data=data, train=train)
    before, after = _numbers(config), _numbers(both)
    different = [name for name, said in before.items() if said not in (None, after[name])]
    if different:
        lines = [f"  {name} is {before[name]:,}, and the run finds {after[name]:,}" for name in different]
        message = "\n".join(["the compiled config and the data differ", *lines])
        raise RunFault("SG428", message, "compile the spec again; where a lock says it, update the lock", exit_code=WRONG)
    return both


def _settled_data(data: DataConfig, figures: Mapping[str, Any]) -> DataConfig:
    validation = data.validation
    if validation is not None:
        validation = replace(validation, rows=figures["validation_rows"], distinct_rows=figures["validation_distinct"])
    return replace(
        data,
        rows=figures["rows"],
        train_rows=figures["train_rows"],
        examples=figures["examples"],
        validation=validation,
        sources=tuple(replace(source, rows=rows) for source, rows in zip(data.sources, figures["by_source"], strict=True)),
    )


def without_counts(data: DataConfig) -> DataConfig:
    """The config of the data without numbers that follow from the rest: a stage's key is the same, known or not."""
    validation = data.validation
    if validation is not None:
        validation = replace(validation, rows=None, distinct_rows=None, sources=without_rows(validation.sources))
    return replace(data, rows=None, train_rows=None, examples=None, validation=validation, sources=without_rows(data.sources))


# how a model is asked for rows: they are the same, whoever pays and however fast
_OF_ASKING: dict[str, Any] = {"api_key_env": None, "concurrency": 0, "timeout_s": 0.0, "budget": BudgetConfig(requests=0, tokens=0)}


def without_rows(sources: tuple[Source, ...]) -> tuple[Source, ...]:
    """Sources without their counts, and without how a model is asked for them."""
    return tuple(
        replace(source, rows=None, **_OF_ASKING) if isinstance(source, LlmSource) else replace(source, rows=None) for source in sources
    )


def _numbers(config: Config) -> dict[str, int | None]:
    data, train = config.data, config.train
    numbers = {
        **{f"data.sources[{index}].rows": source.rows for index, source in enumerate(data.sources)},
        "data.rows": data.rows,
        "data.train_rows": data.train_rows,
        "data.examples": data.examples,
        "train.steps_per_epoch": train.steps_per_epoch,
        "train.total_steps": train.total_steps,
    }
    if data.validation is not None:
        numbers["data.validation.rows"] = data.validation.rows
    return numbers
