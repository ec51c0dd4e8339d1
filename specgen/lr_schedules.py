"""What each schedule of transformers 5.23 (optimization.py) takes in lr_scheduler_kwargs."""

from __future__ import annotations

from dataclasses import dataclass, field

from specgen.optimizers import Kind
from specgen.source import Node

SHAPES = ("linear", "cosine", "1-sqrt")
OWN_WARMUP = ("schedule_free_adamw", "schedule_free_sgd")  # optimizers that warm up by themselves


@dataclass(frozen=True, slots=True, kw_only=True)
class LrSchedule:
    """`takes` maps a setting to what it holds; of each group of `needs` exactly one is given."""

    takes: dict[str, Kind] = field(default_factory=dict)
    needs: tuple[tuple[str, ...], ...] = ()
    warms_up: bool = True


_MIN_LR: dict[str, Kind] = {"num_cycles": float, "min_lr": float, "min_lr_rate": float}
SCHEDULES = {
    "linear": LrSchedule(),
    "cosine": LrSchedule(takes={"num_cycles": float}),
    "cosine_with_restarts": LrSchedule(takes={"num_cycles": int}),
    "polynomial": LrSchedule(takes={"lr_end": float, "power": float}),
    "constant": LrSchedule(warms_up=False),
    "constant_with_warmup": LrSchedule(),
    "inverse_sqrt": LrSchedule(takes={"timescale": int}),
    "reduce_lr_on_plateau": LrSchedule(
        takes={
            "factor": float,
            "patience": int,
            "threshold": float,
            "threshold_mode": ("rel", "abs"),
            "cooldown": int,
            "min_lr": float,
            "eps": float,
        },
        warms_up=False,
    ),
    "cosine_with_min_lr": LrSchedule(takes=_MIN_LR, needs=(("min_lr", "min_lr_rate"),)),
    "cosine_warmup_with_min_lr": LrSchedule(takes={**_MIN_LR, "warmup_lr_rate": float}, needs=(("min_lr", "min_lr_rate"),)),
    "warmup_stable_decay": LrSchedule(
        takes={
            "num_decay_steps": int,
            "num_stable_steps": int,
            "warmup_type": SHAPES,
            "decay_type": SHAPES,
            "min_lr_ratio": float,
            "num_cycles": float,
        },
        needs=(("num_decay_steps",),),
    ),
}


def warms_up(tree: Node) -> bool:
    """Whether something reads the warm-up of a complete tree: its schedule, or an optimizer that has one of its own."""
    return SCHEDULES[tree.text("train", "schedule")].warms_up or tree.text("train", "optimizer") in OWN_WARMUP
