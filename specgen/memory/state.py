"""Bytes of what stays from step to step: weights, what is trained, and the optimizer's state."""

from __future__ import annotations

import math

from specgen.facts.model import ModelFacts
from specgen.memory.shape import Shape
from specgen.modules import is_projected
from specgen.optimizers import OPTIMIZERS, SCALES
from specgen.plan import Int8Quantization, Nf4Quantization, Plan
from specgen.sizes import BYTES
from specgen.trainable import linear_of, ranks_of, trainable_parameters, trained_tensors

BLOCK, OUTER_BLOCK = 64, 256  # bitsandbytes' nf4: values to a scale, and scales to a scale of their own
DEFAULT_RANK = 128  # of GaLore and APOLLO in transformers
TABLES = 4 * (16 + 256)  # bytes a module: the 16 values, and those of the scales


def weights(plan: Plan, shape: Shape) -> int:
    """The base model's weights, on one device that holds all of them."""
    model, zero = plan.model, plan.distributed.zero_stage
    width = BYTES[model.dtype]
    if model.quantization is None:
        return shape.parameters * (4 if plan.adapter is None and not zero else width)
    skipped = _skipped(model.quantization.skip_modules, shape)
    packed = shape.linear_parameters - skipped
    rest = (shape.parameters - packed) * (width if zero else 4)  # peft makes float32 of them
    return rest + _packed(packed, model.quantization, shape)


def _packed(parameters: int, quantization: Nf4Quantization | Int8Quantization, shape: Shape) -> int:
    modules = shape.layers * len(shape.linear)
    if isinstance(quantization, Int8Quantization):
        rows = shape.layers * sum(module.outputs for module in shape.linear)
        return parameters + 4 * rows
    scales = parameters / BLOCK
    overhead = scales + 4 * scales / OUTER_BLOCK + TABLES * modules if quantization.double_quant else 4 * scales + 64 * modules
    return parameters // 2 + math.ceil(overhead)


def _skipped(names: tuple[str, ...], shape: Shape) -> int:
    """Weights of linear layers that stay whole, the output layer apart."""
    found = [module for module in shape.linear if any(module.name == name or module.name.endswith(f".{name}") for name in names)]
    return shape.layers * sum(module.inputs * module.outputs for module in found)


def optimizer_state(plan: Plan, facts: ModelFacts) -> int:
    """The optimizer's state, on one device that holds all of it."""
    name = plan.train.optimizer
    if OPTIMIZERS[name].projects and plan.adapter is None:
        return _projected(plan, facts)
    return state_of(name, count=trainable_parameters(plan, facts), sides=_sides(plan, facts))


def state_of(optimizer: str, *, count: int, sides: int) -> int:
    """An optimizer's bytes for so many numbers, in matrices of so many rows and columns together; what it keeps by matrix
    (Adafactor, AdaLomo) is a row and a column in float32 of each."""
    each = OPTIMIZERS[optimizer].state
    return 4 * sides if each is None else round(each * count)


def _projected(plan: Plan, facts: ModelFacts) -> int:
    """GaLore and APOLLO keep Adam's state of a gradient of `rank` rows or columns, the shorter side's, and the projection; the
    other weights have it whole. GaLore's Adafactor keeps a row and a column of the small gradient."""
    name, targets = plan.train.optimizer, plan.train.optim_target_modules
    each = 2 * (1 + SCALES) if "8bit" in name else 8
    needed = 0.0
    for tensor, shape in trained_tensors(plan.train.trainable_modules, facts).items():
        module = tensor.removesuffix(".weight")
        if len(shape) != 2 or "embed" in module or not any(is_projected(target, module) for target in targets):
            needed += 4 * sum(shape) if "adafactor" in name else each * math.prod(shape)
            continue
        longer, shorter = max(shape), min(shape)
        rank = int(plan.train.optim_args.get("rank", DEFAULT_RANK))
        rank = rank if name.startswith("apollo") else min(rank, shorter)  # APOLLO's projection is random, and has that rank
        needed += (4 * (longer + rank) if "adafactor" in name else each * rank * longer) + 4 * rank * shorter
    return round(needed)


def _sides(plan: Plan, facts: ModelFacts) -> int:
    """Rows and columns of all trained matrices together."""
    if plan.adapter is None:
        return sum(sum(shape) for shape in trained_tensors(plan.train.trainable_modules, facts).values())

    adapter = plan.adapter
    sizes = linear_of(facts)
    return sum(sum(sizes[name]) + 2 * rank for name, rank in ranks_of(adapter, facts).items())
