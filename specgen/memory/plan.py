"""The memory plan: bytes a device at the highest moment of a training step, by part."""

from __future__ import annotations

from dataclasses import dataclass, replace

from specgen.facts.figures import DataFigures
from specgen.facts.model import PROJECTOR, TOWER, ModelFacts
from specgen.memory import activations, sight, state, zero
from specgen.memory.shape import Shape, shape_of
from specgen.memory.sight import Seeing, seeing_of
from specgen.memory.step import Step, chunk_rows, step_of
from specgen.modules import is_part
from specgen.plan import Plan
from specgen.sizes import BYTES
from specgen.trainable import adapter_in, exported_parameters, trainable_parameters, trained_tensors

PARTS = ("weights", "adapter", "gradients", "optimizer", "activations", "logits", "buffers")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """Bytes a device at the peak. `on_cpu` is what a process keeps in the CPU's memory beside it, `disk` what a run writes,
    None where that is not known.

    `row_tokens` and `trained_share` say what it was worked out for.
    """

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    buffers: int
    on_cpu: int
    disk: int | None
    row_tokens: int
    trained_share: float

    @property
    def parts(self) -> dict[str, int]:
        """All parts by name, the largest first."""
        return dict(sorted(((name, getattr(self, name)) for name in PARTS), key=lambda part: -part[1]))

    @property
    def total(self) -> int:
        """Bytes a device."""
        return sum(self.parts.values())

    @property
    def largest(self) -> tuple[str, int]:
        """The name of the largest part, and its bytes."""
        return next(iter(self.parts.items()))


def memory_plan(plan: Plan, facts: ModelFacts | None, figures: DataFigures | None) -> MemoryPlan | None:
    """The memory of a training step; None where the model's sizes are not known."""
    plan = replace(plan, adapter=adapter_in(plan))
    shape = shape_of(facts) if facts and facts.sizes_known else None
    if facts is None or shape is None or (plan.model.quantization is not None and plan.adapter is None):
        return None
    step = step_of(plan, shape, facts, figures)
    held = _state(plan, facts, shape)
    seeing = _seeing(plan, facts, step)
    moments = [_loss(plan, shape, step, held, seeing), _layer(plan, shape, step, held, seeing), _update(plan, facts, shape, step, held)]
    if seeing is not None:
        moments.append(_look(plan, step, held, seeing))
    peak = max(moments, key=lambda moment: moment.total)
    return replace(peak, disk=disk_needed(plan, facts))


def _seeing(plan: Plan, facts: ModelFacts, step: Step) -> Seeing | None:
    """What sees, and what of it is trained."""
    if facts.tower is None:
        return None
    if plan.adapter is None:
        names = trained_tensors(plan.train.trainable_modules, facts)
        whole = [part for part in (TOWER, PROJECTOR) if any(name.startswith(f"{part}.") for name in names)]
    else:
        whole = [part for part in (TOWER, PROJECTOR) if any(is_part(name, part) for name in plan.adapter.modules_to_save)]
    return seeing_of(plan, facts.tower, step, trains_tower=TOWER in whole, trains_projector=PROJECTOR in whole)


def _state(plan: Plan, facts: ModelFacts, shape: Shape) -> zero.State:
    weights, trained = state.weights(plan, shape), trainable_parameters(plan, facts)
    optimizer = state.optimizer_state(plan, facts)
    if plan.distributed.zero_stage == 0:
        return zero.whole(plan, weights=weights, trained=trained, optimizer=optimizer)
    return zero.shared_out(plan, weights=weights, parameters=shape.parameters, trained=trained, optimizer=optimizer)


def _look(plan: Plan, step: Step, held: zero.State, seeing: Seeing) -> MemoryPlan:
    """The forward pass is in the vision tower; the language model has kept nothing yet."""
    gradients = held.gradients if plan.train.gradient_accumulation_steps > 1 else 0
    needed = sight.pixels(seeing, step) + sight.needed_looking(seeing, step)
    return _moment(step, held, gradients=gradients, activations=needed, logits=0, buffers=0)


def _loss(plan: Plan, shape: Shape, step: Step, held: zero.State, seeing: Seeing | None) -> MemoryPlan:
    """The forward pass ends: all activations are there, and of a chunk of trained positions the logits three times in float32
    (log-probabilities, their gradient, and that of the logits). The loss's gradient is worked out ahead: of the hidden states
    that go in, and of a trained output layer, whole and of the chunk."""
    softcap = step.compute if shape.softcaps else 0
    head = step.compute * (shape.embedding + step.trained * shape.hidden) if step.casts and step.stream > step.compute else 0
    ahead = 4 * step.trained * shape.hidden + (8 * shape.embedding if step.trains_head else 0)
    return _moment(
        step,
        held,
        gradients=held.gradients if plan.train.gradient_accumulation_steps > 1 else 0,
        activations=_saved(shape, step, seeing),
        logits=(12 + softcap) * min(step.trained, chunk_rows(shape, step)) * shape.vocabulary,
        buffers=head + ahead + _copies(shape, step, held),
    )


def _layer(plan: Plan, shape: Shape, step: Step, held: zero.State, seeing: Seeing | None) -> MemoryPlan:
    """The backward pass is in the last layer; with gradient checkpointing that layer's activations are there again."""
    again = activations.saved_by_layer(shape, step) if step.checkpointing else 0
    gradients = held.gradients if plan.train.gradient_accumulation_steps > 1 else 4 * shape.embedding if step.full else 0
    return _moment(
        step,
        held,
        gradients=min(gradients, held.gradients),
        activations=_saved(shape, step, seeing) + again + activations.needed_backward(shape, step),
        logits=0,
        buffers=_copies(shape, step, held) + _expanded(plan, shape, step),
    )


def _update(plan: Plan, facts: ModelFacts, shape: Shape, step: Step, held: zero.State) -> MemoryPlan:
    """All gradients are there; the optimizer's step needs room for the largest matrix, or for all where it takes them at once."""
    trained = held.gradients // 4
    largest = shape.embedding if step.full else max((step.rank * module.outputs for module in shape.linear), default=0)
    if facts.tower is not None and not step.full:
        largest = max(largest, shape.hidden * max(shape.hidden, facts.tower.hidden))  # the projector's
    together = plan.train.optimizer == "adamw_torch" and not step.on_cpu
    room = 0 if plan.distributed.zero_stage else 4 * trained if together else 8 * largest
    return _moment(step, held, gradients=held.gradients, activations=0, logits=0, buffers=room)


def _moment(step: Step, held: zero.State, *, gradients: int, activations: int, logits: int, buffers: int) -> MemoryPlan:
    return MemoryPlan(
        weights=held.weights,
        adapter=held.adapter,
        gradients=gradients,
        optimizer=held.optimizer,
        activations=activations,
        logits=logits,
        buffers=buffers + held.buffers,
        on_cpu=held.moved,
        disk=None,
        row_tokens=step.row_tokens,
        trained_share=step.trained / max(1, step.rows * (step.row_tokens - 1)),
    )


def _saved(shape: Shape, step: Step, seeing: Seeing | None) -> int:
    seen = sight.pixels(seeing, step) + sight.saved(seeing, step, shape.hidden) if seeing else 0
    layers = activations.saved_between_layers if step.checkpointing else activations.saved_by_layers
    return layers(shape, step) + activations.saved_by_last_norm(shape, step) + seen


def _copies(shape: Shape, step: Step, held: zero.State) -> int:
    """Trained float32 weights in the 16 bits that autocast computes in; kept with the layer's activations."""
    if not step.casts:
        return 0
    copied = shape.linear_parameters if step.full else held.gradients // 4
    return step.compute * copied // (shape.layers if step.checkpointing else 1)


def _expanded(plan: Plan, shape: Shape, step: Step) -> int:
    """A quantized matrix is expanded for its product, and given up again."""
    if plan.model.quantization is None:
        return 0
    return step.compute * max(module.inputs * module.outputs for module in shape.linear)


def disk_needed(plan: Plan, facts: ModelFacts) -> int:
    """Checkpoints while one more is written, the trained weights, both exports, and a .gguf file as a folder, or the one folder that
    language model and tower become."""
    plan = replace(plan, adapter=adapter_in(plan))
    trained = trainable_parameters(plan, facts)
    exported = exported_parameters(plan, facts)
    saved = trained if plan.adapter else facts.parameters  # frozen parts of a whole model are in a checkpoint, too
    checkpoint = 4 * saved + state.optimizer_state(plan, facts) + (4 * trained if plan.distributed.zero_stage else 0)
    exports = BYTES[plan.export.merged.dtype] * facts.parameters + (BYTES[plan.export.adapter.dtype] * exported if plan.adapter else 0)
    cached = (
        BYTES[plan.model.dtype] * facts.parameters
        if facts.sees
        else 4 * facts.parameters
        if facts.origin == "header" and plan.model.base.TAG != "hub"
        else 0
    )
    return (plan.train.save_total_limit + 1) * checkpoint + 4 * saved + exports + cached
