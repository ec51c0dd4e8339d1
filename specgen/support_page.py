"""docs/reference/support.md: the support matrix as tables. `python -m specgen.support_page` prints it."""

from __future__ import annotations

from collections.abc import Iterator

from specgen.rules.matrix import Combination, matrix

PLAIN: Combination = {
    "packing": False,
    "attention": "sdpa",
    "offload": "none",
    "optimizer": "adamw_torch",
    "zero_stage": 0,
    "dtype": "bfloat16",
    "compute_dtype": "none",
    "quantization": "none",
    "adapter": "lora",
    "remote_code": False,
    "merge_device": "auto",
    "device": "auto",
    "gpu": "ampere",
}
METHODS: dict[str, Combination] = {
    f"{adapter}, {'full precision' if quantization == 'none' else quantization}": {
        "adapter": adapter,
        "quantization": quantization,
        "compute_dtype": "bfloat16" if quantization == "nf4" else "none",
    }
    for adapter in ("lora", "dora", "full")
    for quantization in ("none", "int8", "nf4")
}
STAGES: dict[str, Combination] = {
    "no ZeRO": {"zero_stage": 0},
    "ZeRO-1": {"zero_stage": 1},
    "ZeRO-2": {"zero_stage": 2},
    "ZeRO-3": {"zero_stage": 3},
    "ZeRO-2, optimizer offloaded": {"zero_stage": 2, "offload": "optimizer"},
    "ZeRO-3, optimizer offloaded": {"zero_stage": 3, "offload": "optimizer"},
    "ZeRO-3, all offloaded": {"zero_stage": 3, "offload": "all"},
}
ATTENTIONS: dict[str, Combination] = {
    name: {"attention": name} for name in ("auto", "sdpa", "eager", "flash_attention_2", "flash_attention_3", "flex_attention")
}
PLACES: dict[str, Combination] = {
    "Hopper": {"gpu": "hopper"},
    "Ampere, Ada": {"gpu": "ampere"},
    "Blackwell": {"gpu": "blackwell"},
    "Volta, Turing": {"gpu": "turing"},
    "Pascal": {"gpu": "pascal"},
    "a CPU": {"device": "cpu", "gpu": "unknown"},
}
MACHINES: dict[str, Combination] = {
    f"{dtype} on {where}": {"dtype": dtype, **on} for dtype in ("bfloat16", "float16", "float32") for where, on in PLACES.items()
}
OPTIMIZERS: dict[str, Combination] = {
    name: {"optimizer": name}
    for name in ("adamw_torch", "adamw_torch_fused", "adamw_bnb_8bit", "paged_adamw_8bit", "paged_adamw_32bit", "adafactor", "sgd")
}
STATES: dict[str, Combination] = {
    "on a GPU": {"device": "cuda"},
    "on a CPU": {"device": "cpu", "gpu": "unknown"},
    "GPU, ZeRO-2": {"zero_stage": 2},
    "GPU, ZeRO-2, offloaded": {"zero_stage": 2, "offload": "optimizer"},
}
PACKINGS: dict[str, Combination] = {"packing": {"packing": True}, "no packing": {"packing": False}}
CODES: dict[str, Combination] = {"a model of transformers": {"remote_code": False}, "code of the model's own": {"remote_code": True}}

HEAD = """\
# What works together

Made from [schemas/support.yaml](../../schemas/support.yaml), the file that the checks read. A code says which check tells you, and
`specgen explain CODE` why; *(code)* in italics is a warning, not an error.
"""


def page() -> str:
    """The whole page, Markdown."""
    parts = [
        HEAD,
        *_table("What is trained, and how it is shared out", METHODS, STAGES),
        *_table("Attention, dtype and machine", MACHINES, ATTENTIONS),
        *_table("Optimizer", OPTIMIZERS, STATES),
        *_table("Packing", PACKINGS, CODES),
        "## Why\n",
        "| code | does not work together | why |\n|---|---|---|",
        *_reasons(),
    ]
    return "\n".join(parts) + "\n"


def _table(title: str, rows: dict[str, Combination], columns: dict[str, Combination]) -> Iterator[str]:
    yield f"## {title}\n"
    yield f"| | {' | '.join(columns)} |"
    yield "|---" * (len(columns) + 1) + "|"
    for name, row in rows.items():
        cells = [_cell({**PLAIN, **row, **column}) for column in columns.values()]
        yield f"| {name} | {' | '.join(cells)} |"
    yield ""


def _cell(combination: Combination) -> str:
    found = [conflict for conflict in matrix().conflicts if conflict.holds(combination)]
    codes = dict.fromkeys(conflict.code if conflict.severity == "error" else f"*({conflict.code})*" for conflict in found)
    return ", ".join(codes) or "yes"


def _reasons() -> Iterator[str]:
    for conflict in matrix().conflicts:
        values = "; ".join(f"{matrix().axes[axis].key}: {' or '.join(map(_word, values))}" for axis, values in conflict.when.items())
        yield f"| {conflict.code} | {values} | {conflict.why} |"


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    print(page(), end="")
