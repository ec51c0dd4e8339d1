"""Bytes that one decoder layer keeps for its backward pass, and what that pass needs beside them.

T tokens of the micro batch, D hidden size, F intermediate size, Q all query heads, K all key heads, H heads, r rank.
"""

from __future__ import annotations

from specgen.memory.shape import Linear, Shape
from specgen.memory.step import Step


def saved_by_layers(shape: Shape, step: Step) -> int:
    """Saved by all layers together, without gradient checkpointing."""
    adapters = sum(step.adapted.get(_last(module), 0) * _adapter(module, step) for module in shape.linear)
    shared = shape.layers * _shared_inputs(shape, step)
    return shape.layers * _without_adapters(shape, step) + adapters + shared


def saved_by_layer(shape: Shape, step: Step) -> int:
    """Saved by one layer that has all adapters."""
    adapters = sum(_adapter(module, step) for module in shape.linear if _last(module) in step.adapted)
    return _without_adapters(shape, step) + adapters + _shared_inputs(shape, step)


def saved_between_layers(shape: Shape, step: Step) -> int:
    """Saved by all layers together with gradient checkpointing: what goes into each, and the mask they share."""
    mask = step.rows * step.row_tokens**2 if step.masked and step.attention == "sdpa" else 0
    return shape.layers * step.stream * step.tokens * shape.hidden + mask


def saved_by_last_norm(shape: Shape, step: Step) -> int:
    """The norm before the output layer."""
    return step.tokens * _norm(shape.hidden, step)


def needed_backward(shape: Shape, step: Step) -> int:
    """Gradients and intermediate results while the backward pass goes through a layer, at their highest."""
    mlp = 3 * step.result * shape.intermediate + step.stream * shape.hidden
    attention = 0
    if step.attention == "eager":  # of the scores: in 16 bits, in float32, and before the softmax
        attention = (4 + 4 + step.compute % 4) * shape.heads * step.row_tokens
    return step.tokens * max(mlp, attention - _saved_by_mlp(shape, step))


def _without_adapters(shape: Shape, step: Step) -> int:
    norms = shape.norms * _norm(shape.hidden, step)
    head_norms = _norm(shape.heads_size + shape.keys_size, step) if shape.head_norms else 0
    return step.tokens * (norms + head_norms + _attention(shape, step) + _saved_by_mlp(shape, step))


def _norm(size: int, step: Step) -> int:
    """A norm computes in float32, on a copy where its input is not; its weight's gradient needs the normalised input."""
    return 4 * size + (step.stream * size if step.full else 0)


def _saved_by_mlp(shape: Shape, step: Step) -> int:
    """The gate, what the activation function makes of it, and the other half."""
    return 3 * step.result * shape.intermediate


def _attention(shape: Shape, step: Step) -> int:
    """Queries, keys and values; then the output (sdpa, flash) or the scores (eager). With a mask, and in eager attention,
    keys and values are repeated for each query head."""
    repeated = step.attention == "eager" or (step.attention == "sdpa" and step.masked)
    keys = shape.heads_size if repeated else shape.keys_size
    inputs = step.compute * (shape.heads_size + 2 * keys)
    if step.attention == "eager":
        scores = 4 + (step.compute if step.compute < 4 else 0) + (step.compute if shape.softcaps else 0)
        return inputs + scores * shape.heads * step.row_tokens
    mask = step.compute * step.row_tokens if repeated else 0
    return inputs + step.compute * shape.heads_size + 4 * shape.heads + mask


def _adapter(module: Linear, step: Step) -> int:
    """LoRA beside a linear layer: the dropout's mask, what it leaves of the input, and the input at rank r."""
    source = {"heads": step.compute, "product": step.result}.get(module.reads, step.stream)
    mask = (source if step.on_cpu else 1) * module.inputs if step.dropout else 0
    own_input = step.compute * module.inputs if step.dropout or source != step.compute else 0
    dora = 2 * step.result * module.outputs if step.dora else 0
    return step.tokens * (mask + own_input + step.compute * step.rank + dora)


def _shared_inputs(shape: Shape, step: Step) -> int:
    """Inputs that linear layers keep: for the gradient of their weights, or of an adapter without dropout."""
    sizes = {"attention": shape.hidden, "mlp": shape.hidden, "product": shape.intermediate, "heads": shape.heads_size}
    kept = 0
    for reads, size in sizes.items():
        source = {"heads": step.compute, "product": step.result}.get(reads, step.stream)
        readers = sum(module.reads == reads and (step.full or _last(module) in step.adapted) for module in shape.linear)
        if reads == "heads" and step.attention != "eager":
            continue  # the attention's output, which it keeps itself
        if step.keeps_inputs:
            kept += source * size
        if step.full:
            kept += step.compute * size * (readers if source != step.compute else 1)
        elif readers and not step.dropout and source == step.compute:
            kept += step.compute * size
    return step.tokens * kept


def _last(module: Linear) -> str:
    return module.name.rpartition(".")[2]
