"""What DeepSpeed's ZeRO shares out over the processes, what it moves to the CPU, and the buffers it takes for that."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from specgen.plan import Plan
from specgen.sizes import BYTES

# DeepSpeed's own numbers (0.19), in elements: they can be set in distributed.deepspeed
BUCKET, LIVE_PARAMETERS, SWAP_BUFFER = 500_000_000, 1_000_000_000, 100_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Bytes a device that stay from step to step, gradients as they are at the end of a backward pass; `buffers` are work
    space, `moved` is what lies on the CPU instead."""

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    buffers: int
    moved: int


def whole(plan: Plan, *, weights: int, trained: int, optimizer: int) -> State:
    """Without ZeRO every device has everything; several processes keep their gradients in buckets, too."""
    return State(
        weights=weights,
        adapter=4 * trained if plan.adapter else 0,
        gradients=4 * trained,
        optimizer=optimizer,
        buffers=4 * trained if plan.distributed.world_size > 1 else 0,
        moved=0,
    )


def shared_out(plan: Plan, *, weights: int, parameters: int, trained: int, optimizer: int) -> State:
    """ZeRO: the optimizer's state and float32 copies of what is trained are shared from stage 1 on, gradients from 2, weights
    from 3."""
    stage, processes, width = plan.distributed.zero_stage, plan.distributed.world_size, BYTES[plan.model.dtype]
    share = -(-trained // processes)
    held = optimizer // processes + 8 * share  # and float32 copies of the weights and, in the optimizer's step, of gradients
    gradients = width * (trained if stage == 1 else share)
    adapter = width * trained if plan.adapter else 0
    if stage == 3:
        weights, adapter = -(-weights // processes), -(-adapter // processes)
    moved = 0
    if plan.distributed.offload != "none":
        moved, held = moved + held, 0
        gradients = gradients if stage == 1 else 0
    if plan.distributed.offload == "all":
        moved, weights, adapter = moved + weights + adapter, 0, 0
    buffers = _buffers(plan, parameters, trained)
    return State(weights=weights, adapter=adapter, gradients=gradients, optimizer=held, buffers=buffers, moved=moved)


def bucket_size(trained: int | None) -> int:
    """Elements of the buckets in which gradients travel: DeepSpeed makes them whole at the start, two of a GB in 16 bits, and
    an adapter's gradients fill a fraction."""
    return BUCKET if trained is None else min(BUCKET, trained)


def swap_buffer(plan: Plan, tensors: Mapping[str, tuple[int, ...]]) -> int:
    """Elements of the buffers through which weights come from an NVMe disk: each has to hold a process's share of the largest
    tensor. DeepSpeed's own 100 million are too few for a large vocabulary, and take 1 GB for a small model."""
    largest = max((math.prod(shape) for shape in tensors.values()), default=SWAP_BUFFER)
    return -(-largest // plan.distributed.world_size)


def _buffers(plan: Plan, parameters: int, trained: int) -> int:
    """Buckets, two of them while one is sent; stage 3 gathers weights before they are used."""
    width = BYTES[plan.model.dtype]
    bucket = width * _own(plan, "reduce_bucket_size", bucket_size(trained))
    if plan.distributed.zero_stage < 3:
        return 2 * bucket
    return bucket + width * min(parameters, _own(plan, "stage3_max_live_parameters", LIVE_PARAMETERS))


def _own(plan: Plan, name: str, derived: int) -> int:
    """What distributed.deepspeed says of ZeRO, else what is derived."""
    own = plan.distributed.deepspeed.get("zero_optimization", {}).get(name)
    return int(own) if isinstance(own, int | float) else derived
