"""docs/reference/support.md: the support matrix as tables. `python -m docsite.support` prints it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from specgen.places import data_folder
from specgen.rules.matrix import Combination, matrix

RunCell = tuple[str, str, int, str]  # method, quantization, ZeRO stage, offload

PLAIN: Combination = {
    "packing": False,
    "attention": "sdpa",
    "offload": "none",
    "optimizer": "adamw_torch_fused",
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
METHODS = ("lora", "dora", "full")
QUANTIZATIONS = ("none", "int8", "nf4")
STAGES: dict[str, tuple[int, str]] = {
    "no ZeRO": (0, "none"),
    "ZeRO-1": (1, "none"),
    "ZeRO-2": (2, "none"),
    "ZeRO-3": (3, "none"),
    "ZeRO-1, optimizer offloaded": (1, "optimizer"),
    "ZeRO-2, optimizer offloaded": (2, "optimizer"),
    "ZeRO-3, optimizer offloaded": (3, "optimizer"),
    "ZeRO-3, all offloaded": (3, "all"),
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

## What is trained, and how it is shared out

**Yes** is what was run, with packed rows and without: real steps of SmolLM2-135M on a CPU, whose loss fell ({versions}).
[schemas/support_measured.yaml](../../schemas/support_measured.yaml) has the losses of each; `make test-slow` runs all of them again.
"""


def page() -> str:
    """The whole page, Markdown."""
    versions = ", ".join(f"{library} {number}" for library, number in _measured()["versions"].items())
    parts = [
        HEAD.format(versions=versions),
        *_run_table(),
        *_table("Attention, dtype and machine", MACHINES, ATTENTIONS),
        *_table("Optimizer", OPTIMIZERS, STATES),
        *_table("Packing", PACKINGS, CODES),
        "## Why\n",
        "| code | does not work together | why |\n|---|---|---|",
        *_reasons(),
    ]
    return "\n".join(parts) + "\n"


def run_cells() -> dict[RunCell, str]:
    """Of each method, quantization, ZeRO stage and offload: yes if it was run with packed rows and without, the codes that
    refuse it, or that it compiles and was not run."""
    packings: dict[RunCell, set[bool]] = {}
    for row in _measured()["rows"]:
        packings.setdefault((row["method"], row["quantization"], row["zero_stage"], row["offload"]), set()).add(row["packing"])
    cells: dict[RunCell, str] = {}
    for method, quantization, (stage, offload) in itertools.product(METHODS, QUANTIZATIONS, STAGES.values()):
        chosen = {"adapter": method, "quantization": quantization, "compute_dtype": "bfloat16" if quantization == "nf4" else "none"}
        refused = _cell({**PLAIN, **chosen, "zero_stage": stage, "offload": offload})
        label = (method, quantization, stage, offload)
        cells[label] = refused if refused != "yes" or len(packings.get(label, ())) == len(PACKINGS) else "not run"
    return cells


def _measured() -> dict[str, Any]:
    import yaml

    text = (data_folder("schemas") / "support_measured.yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.load(text, Loader=yaml.CSafeLoader)
    return content


def _run_table() -> Iterator[str]:
    cells = run_cells()
    yield f"| | {' | '.join(STAGES)} |"
    yield "|---" * (len(STAGES) + 1) + "|"
    for method, quantization in itertools.product(METHODS, QUANTIZATIONS):
        row = [cells[method, quantization, stage, offload] for stage, offload in STAGES.values()]
        yield f"| {method}, {'full precision' if quantization == 'none' else quantization} | {' | '.join(row)} |"
    yield ""


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
