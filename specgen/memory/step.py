"""A training step as its memory sees it: how many tokens go in, and in how many bytes each kind of number is kept.

All of it is read off transformers' and peft's own code (transformers 5.23, peft 0.21) and held against the runtime's step on
fake tensors: docs/memory.md.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from specgen.facts.figures import DataFigures
from specgen.facts.model import OUTPUT_LAYERS, ModelFacts
from specgen.memory.shape import Shape
from specgen.plan import Int8Quantization, Nf4Quantization, Plan
from specgen.sizes import BYTES
from specgen.trainable import adapted_modules, trained_tensors

CHUNK_BYTES = {"cpu": 64 * 2**20, "cuda": 256 * 2**20}  # of the logits of a chunk, in float32; the runtime's (a test compares)
LEAST_ROWS = 128  # of a chunk
SHORT_ROW = 128  # tokens: up to here the runtime takes eager attention on a CPU


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Tokens of a micro batch, and bytes a number: of the hidden states between layers, in matrix products, of their results.

    `adapted` counts for each linear module of a layer the layers where it has an adapter; `casts` says whether trained
    weights are float32 and computed with in 16 bits, as copies; `keeps_inputs` whether frozen linear layers do (int8);
    `trains_head` whether the output layer is trained.
    """

    rows: int
    row_tokens: int
    trained: int
    stream: int
    compute: int
    result: int
    full: bool
    trains_head: bool
    casts: bool
    keeps_inputs: bool
    masked: bool
    attention: str
    on_cpu: bool
    rank: int
    dropout: bool
    dora: bool
    adapted: dict[str, int]
    checkpointing: bool

    @property
    def tokens(self) -> int:
        """Tokens of one micro batch, padding included."""
        return self.rows * self.row_tokens


def step_of(plan: Plan, shape: Shape, facts: ModelFacts, figures: DataFigures | None) -> Step:
    """The largest micro batch of a plan. Without figures, rows are as long as they may be, and all of it is trained."""
    train, model, lora = plan.train, plan.model, plan.adapter
    packed = plan.data.packing
    longest = plan.data.max_length if figures is None or packed else min(figures.longest, plan.data.max_length)
    share = 1.0 if figures is None else figures.trained_share
    on_cpu, sharing = plan.hardware.device == "cpu", plan.distributed.zero_stage > 0
    width = BYTES[model.dtype]
    saves_embedding = lora is not None and any("embed" in name.rpartition(".")[2] for name in lora.modules_to_save)
    is_wide = not sharing and (lora is None or model.quantization is not None or saves_embedding)  # float32 embeddings
    counts = Counter(name.rpartition(".")[2] for name in adapted_modules(lora, facts))
    return Step(
        rows=train.micro_batch_size,
        row_tokens=longest,
        trained=max(1, round(train.micro_batch_size * (longest - 1) * share)),
        stream=4 if is_wide else width,
        compute=width,
        result=4 if is_wide and _results_are_wide(model.quantization, on_cpu=on_cpu) else width,
        full=lora is None,
        trains_head=_trains_head(plan, facts),
        casts=width < 4 and not sharing,
        keeps_inputs=isinstance(model.quantization, Int8Quantization),
        masked=train.micro_batch_size > 1 or packed,
        attention="eager" if shape.softcaps else _attention(model.attention, longest, on_cpu=on_cpu),
        on_cpu=on_cpu,
        rank=lora.r if lora else 0,
        dropout=bool(lora and lora.dropout),
        dora=bool(lora and lora.use_dora),
        adapted=dict(counts),
        checkpointing=train.gradient_checkpointing,
    )


def chunk_rows(shape: Shape, step: Step) -> int:
    """Trained positions that go through the output layer together."""
    fits = CHUNK_BYTES["cpu" if step.on_cpu else "cuda"] // (4 * shape.vocabulary)
    return max(LEAST_ROWS, fits, shape.hidden // 4 if step.trains_head else 0)


def _trains_head(plan: Plan, facts: ModelFacts) -> bool:
    """Whether the output layer, or the embeddings that it shares, are trained as a whole."""
    if plan.adapter is not None:
        return any(name.rpartition(".")[2] in OUTPUT_LAYERS for name in plan.adapter.modules_to_save)
    trained = {tensor.removesuffix(".weight").rpartition(".")[2] for tensor in trained_tensors(plan.train.trainable_modules, facts)}
    return bool(trained & {*OUTPUT_LAYERS, *(["embed_tokens"] if facts.tie_word_embeddings else [])})


def _results_are_wide(quantization: Nf4Quantization | Int8Quantization | None, *, on_cpu: bool) -> bool:
    """bitsandbytes gives results in the type of its input; on a CPU its int8 expands the weights and leaves that to autocast."""
    return isinstance(quantization, Nf4Quantization) or (isinstance(quantization, Int8Quantization) and not on_cpu)


def _attention(choice: str, longest: int, *, on_cpu: bool) -> str:
    """What the runtime makes of `auto`. On a GPU flash-attn may be installed there; sdpa needs no less."""
    if choice != "auto":
        return choice
    return "eager" if on_cpu and longest <= SHORT_ROW else "sdpa"
