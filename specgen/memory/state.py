"""Bytes of what stays from step to step: weights, what is trained, and the optimizer's state."""

from __future__ import annotations

import math

from specgen.facts.model import ModelFacts
from specgen.memory.shape import Shape
from specgen.plan import Int8Quantization, Nf4Quantization, Plan
from specgen.sizes import BYTES
from specgen.trainable import adapted_modules, trainable_parameters

BLOCK, OUTER_BLOCK = 64, 256  # bitsandbytes' nf4: values to a scale, and scales to a scale of their own
TABLES = 4 * (16 + 256)  # bytes a module: the 16 values, and those of the scales
STATE = {  # bytes a trained number
    "adamw_torch": 8.0,
    "adamw_torch_fused": 8.0,
    "paged_adamw_32bit": 8.0,
    "adamw_bnb_8bit": 2 + 8 / 256,  # and two scales to 256 values
    "paged_adamw_8bit": 2 + 8 / 256,
    "sgd": 0.0,
}


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


def trained(plan: Plan, facts: ModelFacts) -> int:
    """Numbers that get a gradient."""
    return trainable_parameters(plan.adapter, facts)


def optimizer_state(plan: Plan, facts: ModelFacts) -> int:
    """The optimizer's state, on one device that holds all of it."""
    return state_of(plan.train.optimizer, count=trained(plan, facts), sides=_sides(plan, facts))


def state_of(optimizer: str, *, count: int, sides: int) -> int:
    """An optimizer's bytes for so many numbers, in matrices of so many rows and columns together."""
    return 4 * sides if optimizer == "adafactor" else round(STATE[optimizer] * count)


def _sides(plan: Plan, facts: ModelFacts) -> int:
    """Rows and columns of all trained matrices together."""
    if plan.adapter is None:
        return sum(sum(shape) for shape in facts.tensors.values())

    modules = adapted_modules(plan.adapter, facts)
    return sum(sum(facts.linear[name]) + 2 * plan.adapter.r for name in modules)
