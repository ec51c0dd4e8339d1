"""docs/reference/training.md: optimizers and schedules as tables. `python -m docsite.training` prints it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from specgen.lr_schedules import SCHEDULES
from specgen.optimizers import OPTIMIZERS, Kind, Optimizer

HEAD = """\
# Optimizers and schedules

Made from specgen/optimizers.py and specgen/lr_schedules.py, which the checks read, by `make docs`. Names are those of transformers 5.23.

## Optimizers

`state` is in bytes a trained number; *by matrix*: it follows from the shapes. What an optimizer cannot is told before the run
(SG606, SG610, SG616).

| train.optimizer | package | state | optim_args | reads, beside the rate | cannot |
|---|---|---|---|---|---|
"""
MIDDLE = """
## Schedules

| train.schedule | lr_scheduler_kwargs | needs | warm-up |
|---|---|---|---|
"""
WORDS = {int: "whole", float: "number", bool: "true or false"}


def page() -> str:
    """The whole page, Markdown."""
    return HEAD + "".join(_optimizers()) + MIDDLE + "".join(_schedules())


def _optimizers() -> Iterator[str]:
    for name, optimizer in OPTIMIZERS.items():
        state = "by matrix" if optimizer.state is None else f"{optimizer.state:.3g}"
        cells = [optimizer.package or "", state, _settings(optimizer.args), _reads(optimizer), _cannot(optimizer)]
        yield f"| {name} | {' | '.join(cells)} |\n"


def _settings(takes: Mapping[str, Kind]) -> str:
    return ", ".join(f"{name} ({'; '.join(kind) if isinstance(kind, tuple) else WORDS[kind]})" for name, kind in takes.items())


def _reads(optimizer: Optimizer) -> str:
    words = {"adam_beta1": "betas", "adam_epsilon": "epsilon", "weight_decay": "weight decay", "max_grad_norm": "clipping"}
    return ", ".join(word for key, word in words.items() if key in optimizer.reads)


def _cannot(optimizer: Optimizer) -> str:
    if optimizer.broken:
        return f"start: {optimizer.broken}"
    limits = {
        "be without a GPU": optimizer.needs_gpu,
        "train beside an adapter": optimizer.projects,
        "accumulate, or train in several processes": optimizer.fused,
        "work under ZeRO": not optimizer.flat,
        "have LoRA+ rates": not optimizer.takes_groups and not optimizer.projects,
        "go on from a checkpoint": not optimizer.resumes,
    }
    return "; ".join(words for words, holds in limits.items() if holds)


def _schedules() -> Iterator[str]:
    for name, schedule in SCHEDULES.items():
        needs = ", ".join(" or ".join(group) for group in schedule.needs)
        yield f"| {name} | {_settings(schedule.takes)} | {needs} | {'yes' if schedule.warms_up else 'none'} |\n"


if __name__ == "__main__":
    print(page(), end="")
