"""Memory of a training step: worked out, counted on fake tensors, and measured in real processes.

    python benchmarks/memory.py                 prints the tables
    python benchmarks/memory.py --write         writes docs/memory.md and benchmarks/memory.json, too
    python benchmarks/memory.py --only nf4      only the combinations whose name holds a word
    python benchmarks/memory.py --shapes        only what needs no weights
    python benchmarks/memory.py --again         what was measured before is taken from benchmarks/memory.json

Measured is the process memory of the second of two real training steps of SmolLM2-135M-Instruct, above what the process had
before the model was built. A step of a tiny model runs first, so that libraries are loaded by then. glibc's malloc is told to
give memory back at once (MALLOC_MMAP_THRESHOLD_): what is counted is in use. What a run under tcmalloc holds, freed memory
that it keeps included, stands beside it.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TRAINED_SHARE = 0.3
HELD_AT = 512  # tokens of the rows whose steps are run under tcmalloc, too
MICRO_BATCH = 2
MIB = 2**20
FIGURES = ROOT / "benchmarks" / "memory.json"
SPEC = ROOT / "specs" / "assistant.yaml"
COMMON = ("hardware.device=cpu", f"train.batch_size={MICRO_BATCH}", f"train.micro_batch_size={MICRO_BATCH}", "train.max_steps=2")
FULL = ("adapter=null", "train.learning_rate=1e-5")
NF4 = ("model.quantization={nf4: {}}",)
LORA = ("adapter.lora.dropout=0.05",)
CHECKPOINTS = ("train.gradient_checkpointing=true",)
PACKED = ("data.packing=true", "train.batch_size=1", "train.micro_batch_size=1")
SHAPES = {  # as published in their config.json
    "InternLM2-1.8B": {
        "model_type": "llama",  # renamed and split, it is one
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "vocab_size": 92544,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": False,
    },
    "Qwen3-8B": {
        "model_type": "qwen3",
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
        "max_position_embeddings": 40960,
        "tie_word_embeddings": False,
    },
    "Llama-3.1-8B": {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": False,
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Settings of the default spec, and the tokens of the longest row."""

    name: str
    settings: tuple[str, ...]
    row_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Bytes; measured and held are None where nothing was run."""

    name: str
    row_tokens: int
    arithmetic: int
    fake_step: int
    measured: int | None
    held: int | None
    parts: dict[str, int]


def cases() -> list[Case]:
    """Full, LoRA and nf4, at three lengths, with and without gradient checkpointing; and packs."""
    found = []
    for kind, settings in (("LoRA", LORA), ("nf4", (*NF4, *LORA)), ("full", FULL)):
        for row_tokens in (128, 512, 1024):
            for name, more in ((kind, settings), (f"{kind}, checkpointing", (*settings, *CHECKPOINTS))):
                found.append(Case(name=name, settings=(*COMMON, *more), row_tokens=row_tokens))
        found.append(Case(name=f"{kind}, packing", settings=(*COMMON, *settings, *PACKED), row_tokens=1024))
    return sorted(found, key=lambda case: case.row_tokens)  # the quick ones first


def shape_cases() -> list[Case]:
    """One row of 2,048 tokens."""
    one = ("train.batch_size=1", "train.micro_batch_size=1", "hardware.device=cpu", *LORA)
    kinds = (("LoRA", one), ("QLoRA", (*one, *NF4)))
    return [
        Case(name=name, settings=settings, row_tokens=2048)
        for kind, base in kinds
        for name, settings in ((kind, base), (f"{kind}, checkpointing", (*base, *CHECKPOINTS)))
    ]


def examine(case: Case, *, shape: dict[str, Any] | None, before: dict[str, Any] | None) -> Result:
    """One case: with a shape of its own without measurement, else measured, unless that was done before."""
    from specgen import folder
    from specgen.compiler import compile_spec
    from specgen.facts.model import facts_from_config
    from specgen.memory import memory_plan
    from specgen.memory.measured import measured
    from specgen.plan import HubBase
    from specgen.render import render

    compiled = compile_spec(SPEC, None, (*case.settings, f"data.max_length={case.row_tokens}"))
    plan, facts, figures = compiled.plan, compiled.facts.model, figures_of(case)
    with tempfile.TemporaryDirectory() as scratch:
        build = Path(scratch, "build")
        folder.write(render(plan, compiled.facts), build)
        if shape is not None:
            import dataclasses

            facts = facts_from_config(shape, origin="published")
            plan = dataclasses.replace(plan, model=dataclasses.replace(plan.model, base=HubBase(repo="a/shape", revision=None)))
        worked_out = memory_plan(plan, facts, figures)
        counted = measured(build, plan, facts, figures)
        assert worked_out is not None, case
        real, held = (None, None) if shape else (before["measured"], before["held"]) if before else measure(build, case)
    return Result(
        name=case.name,
        row_tokens=case.row_tokens,
        arithmetic=worked_out.total,
        fake_step=counted.total,
        measured=real,
        held=held,
        parts=worked_out.parts,
    )


def figures_of(case: Case) -> Any:
    """Data figures with nothing but the two numbers that memory follows from."""
    from specgen.facts.figures import DataFigures

    counts = dict.fromkeys(("rows", "train_rows", "validation_rows", "examples", "median", "p90", "p99", "dropped", "truncated"), 0)
    shares = {"duplicates": 0.0, "overlap": 0.0}
    return DataFigures(**counts, **shares, tokens=1000, trained_tokens=round(1000 * TRAINED_SHARE), longest=case.row_tokens)


def measure(build: Path, case: Case) -> tuple[int, int | None]:
    """In use, and held by tcmalloc; the latter for rows of one length."""
    return run(build, case, malloc="glibc"), run(
        build, case, malloc="tcmalloc"
    ) if case.row_tokens == HELD_AT and "checkpointing" not in case.name else None


def run(build: Path, case: Case, *, malloc: str) -> int:
    """Real training steps in a process of their own; its peak in bytes."""
    from specgen.launch import environment

    own = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(64 * 1024)} if malloc == "glibc" else environment()
    own["OMP_NUM_THREADS"] = "1"  # threads that wait for each other cost more than they save on a busy machine
    command = [sys.executable, str(Path(__file__)), "--steps", str(build), "--row-tokens", str(case.row_tokens)]
    done = subprocess.run(command, env=own, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return int(json.loads(done.stdout.splitlines()[-1])["peak"])


def take_steps(build: Path, row_tokens: int) -> int:
    """What a child does: a tiny model's step, then the real ones. Returns the last one's peak above the state before."""
    from runtime import config as configs

    config = configs.load(build)
    with tempfile.TemporaryDirectory() as scratch:
        train(config, build, row_tokens=64, tiny=True, out=Path(scratch))
        before = status("VmRSS")
        return max(train(config, build, row_tokens=row_tokens, tiny=False, out=Path(scratch))) - before


def train(config: Any, build: Path, *, row_tokens: int, tiny: bool, out: Path) -> list[int]:
    """Two steps of the runtime's trainer; the process memory's peak in each but the first."""
    import contextlib

    from peft import PeftModel
    from peft.helpers import disable_input_dtype_casting
    from transformers import TrainerCallback

    from runtime.data.dataset import collate
    from runtime.models.model import pick_device
    from runtime.training.arguments import training_arguments
    from runtime.training.trainable import autocasts, prepared
    from runtime.training.trainer import SpanTrainer

    device = pick_device("cpu")
    base = tiny_model(config) if tiny else real_model(config, row_tokens, device)
    model = prepared(config, base)
    peaks: list[int] = []

    class Peaks(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew

        def on_step_end(self, *_: Any, **__: Any) -> None:
            peaks.append(status("VmHWM"))

    trainer = SpanTrainer(
        model=model,
        args=training_arguments(config, out, build, validates=False),
        train_dataset=rows(config, row_tokens),
        data_collator=functools.partial(collate, pad_id=2),
        callbacks=[Peaks()],
    )
    with disable_input_dtype_casting(model, active=autocasts(config)) if isinstance(model, PeftModel) else contextlib.nullcontext():
        trainer.train()
    return peaks[1:]


def real_model(config: Any, row_tokens: int, device: Any) -> Any:
    """The model of a config with its weights, as training loads it."""
    from runtime.models.model import load_config, load_model
    from runtime.training.attention import attention_for
    from runtime.training.trainable import weights_dtype

    attention = attention_for(config.model, load_config(config.model), longest=row_tokens, device=device)
    return load_model(config.model, device=device, attention=attention.name, dtype=weights_dtype(config))


def tiny_model(config: Any) -> Any:
    """The base model's architecture with two thin layers: it loads the code that a step runs."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from runtime.models.base import folder_of
    from runtime.models.model import torch_dtype
    from runtime.training.trainable import weights_dtype

    shape = AutoConfig.from_pretrained(folder_of(config.model.base))
    shape.update({"num_hidden_layers": 2, "vocab_size": 64, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0})
    model = AutoModelForCausalLM.from_config(shape, dtype=torch_dtype(weights_dtype(config)))
    model.requires_grad_(False)
    return model


def rows(config: Any, row_tokens: int) -> list[dict[str, Any]]:
    """Rows of random tokens, all but the first of a micro batch a token shorter, so that there is padding; or packs."""
    import numpy as np

    random = np.random.default_rng(0)
    found = []
    for index in range(4 * config.train.micro_batch_size):
        length = row_tokens if index % config.train.micro_batch_size == 0 else row_tokens - 1
        trained = np.zeros(length, np.uint8)
        trained[1 : 1 + round((length - 1) * TRAINED_SHARE)] = 1
        row = {"input_ids": random.integers(0, 60, length, dtype=np.int32), "trained": trained}
        if config.data.packing:
            row["position_ids"] = np.arange(length) % (row_tokens // 4)
        found.append(row)
    return found


def status(key: str) -> int:
    """A line of /proc/self/status, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024


def table(results: list[Result]) -> list[str]:
    """Rows of Markdown; MiB."""
    lines = [
        "| combination | row | arithmetic | fake step | measured | arithmetic / measured | fake / measured | held by tcmalloc |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        assert result.measured, result
        held = f"{result.held / MIB:,.0f}" if result.held else ""
        ratios = [f"{number / result.measured:.2f}" for number in (result.arithmetic, result.fake_step)]
        sizes = [f"{number / MIB:,.0f}" for number in (result.arithmetic, result.fake_step, result.measured)]
        lines.append(f"| {' | '.join([result.name, f'{result.row_tokens:,}', *sizes, *ratios, held])} |")
    return lines


def shape_table(results: list[Result]) -> list[str]:
    """Rows of Markdown; GiB."""
    lines = ["| model | combination | arithmetic | fake step | ratio | largest parts |", "|---|---|---|---|---|---|"]
    for result in results:
        model, _, name = result.name.partition(": ")
        parts = ", ".join(f"{part} {size / 2**30:.1f}" for part, size in list(result.parts.items())[:3])
        sizes = [f"{number / 2**30:.2f}" for number in (result.arithmetic, result.fake_step)]
        lines.append(f"| {' | '.join([model, name, *sizes, f'{result.arithmetic / result.fake_step:.2f}', parts])} |")
    return lines


def main() -> None:
    """Compares the memory that is planned with the memory that is measured; --steps is a process that takes real steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--shapes", action="store_true")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--steps", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--row-tokens", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.steps:
        print(json.dumps({"peak": take_steps(arguments.steps, arguments.row_tokens)}))
        return
    known = json.loads(FIGURES.read_text()) if arguments.again else {"combinations": []}
    before = {(result["name"], result["row_tokens"]): result for result in known["combinations"]}
    results: list[Result] = []
    for case in [] if arguments.shapes else [case for case in cases() if arguments.only in case.name]:
        results.append(examine(case, shape=None, before=before.get((case.name, case.row_tokens))))
        print(table(results)[-1], flush=True)
        if arguments.write:
            keep(results, [])
    shapes: list[Result] = []
    for name, shape in SHAPES.items():
        for case in shape_cases():
            result = examine(case, shape=shape, before=None)
            shapes.append(Result(**{**asdict(result), "name": f"{name}: {result.name}"}))
            print(shape_table(shapes)[-1], flush=True)
    if arguments.write:
        write(results, shapes)


def write(results: list[Result], shapes: list[Result]) -> None:
    """docs/memory.md from its template, and the figures as JSON."""
    worst = {
        name: max((getattr(result, name) / result.measured - 1 for result in results if result.measured), key=abs)
        for name in ("arithmetic", "fake_step")
    }
    text = (ROOT / "benchmarks" / "memory.md.in").read_text(encoding="utf-8")
    text = text.replace("@MEASURED@", "\n".join(table(results))).replace("@SHAPES@", "\n".join(shape_table(shapes)))
    text = text.replace("@ARITHMETIC@", f"{worst['arithmetic']:+.0%}").replace("@FAKE@", f"{worst['fake_step']:+.0%}")
    (ROOT / "docs" / "memory.md").write_text(text, encoding="utf-8")
    keep(results, shapes)


def keep(results: list[Result], shapes: list[Result]) -> None:
    """All figures as JSON, also in the middle of it: a measurement takes a minute."""
    figures = {"combinations": [asdict(result) for result in results], "shapes": [asdict(result) for result in shapes]}
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
