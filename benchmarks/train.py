"""The same LoRA work by specgen, by what a user would pick instead, and by loops that have nothing but the work.

    python -m benchmarks.train               everything
    python -m benchmarks.train --only whole  one part: whole, steps, qlora

Everybody trains SmolLM2-135M on the rows of specs/assistant.yaml in batches of 8 at the same rate and in the same type: bfloat16 where the
processor has instructions for it, else float32. `whole` is from the start of a process to an answer of the merged model; the
default spec shows previews, writes checkpoints and tests the base model as well. A step is counted from the third on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.bench import (
    ROOT,
    RUNS,
    TRL,
    Figures,
    Peer,
    Report,
    Table,
    Target,
    base_in,
    before,
    has_bfloat16,
    measured,
    medians,
    specgen,
    versions,
)
from benchmarks.bench import peers as installed
from benchmarks.steps import of_job, of_steps

SPEC = ROOT / "specs" / "assistant.yaml"
DTYPE = "bfloat16" if has_bfloat16() else "float32"
PARTS = ("whole", "steps", "qlora")
OURS, LOOP, BEST = "specgen", "plain PyTorch loop", "the same loop, all that is known"
TRL_NAME, TRL_LEAN = "TRL", "TRL without gradient checkpointing"
PACKED = "specgen, packed"
STEPS = 3
QUICK_STEPS = 8  # of those that take half a second each
WHOLE_STEPS = 30
PACK = 512
SELF = Peer(name="loop", python=Path(sys.executable))


def main() -> None:
    """Measures all parts, or those of --only, and shows the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--runs", type=int, default=RUNS)
    arguments = parser.parse_args()
    about = f"Training by specgen and by others, in {DTYPE}"
    packages = versions("specgen", "torch", "transformers", "peft", "accelerate", "bitsandbytes")
    report = Report(name="train", about=about, runs=arguments.runs, versions=packages | {peer.name: peer.version() for peer in installed()})
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name))
        report.figures = before("train") if arguments.only else {}
        for part in arguments.only or PARTS:
            report.figures[part] = medians(bench.ways(part), runs=arguments.runs, what=part)
    for part in PARTS:
        if part in report.figures:
            SHOWN[part](report, report.figures[part])
    report.show()


class Bench:
    """A folder with the base model and the rows, in which everybody works."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache = {"SPECGEN_CACHE": str(folder / "cache")}
        self.base = base_in(folder)
        (folder / "rows.json").write_text(json.dumps(conversations(folder / "base")), encoding="utf-8")

    def ways(self, part: str) -> dict[str, Callable[[], Figures]]:
        """Who does the work of a part."""
        lean = partial(self.job, TRL, checkpointing=False)
        if part == "whole":
            return {OURS: self.ours_whole, TRL_NAME: partial(self.job, TRL, is_whole=True, steps=WHOLE_STEPS)}
        if part == "steps":
            others = {peer.name: partial(self.job, peer, checkpointing=False) for peer in installed() if peer != TRL}
            loops = {LOOP: partial(self.job, SELF), BEST: partial(self.job, SELF, best=True, steps=QUICK_STEPS)}
            packing = ("data.packing=true", f"data.max_length={PACK}", "train.batch_size=1", "train.micro_batch_size=1")
            return {OURS: self.ours, TRL_LEAN: lean, **others, **loops, PACKED: partial(self.ours, *packing)}
        return {OURS: partial(self.ours, "model.quantization={nf4: {}}"), TRL_LEAN: partial(lean, nf4=True)}

    def ours(self, *changes: str) -> Figures:
        """Data and training of the default spec, with changes."""
        shutil.rmtree(self.folder / "runs", ignore_errors=True)
        few = (f"model.dtype={DTYPE}", "train.epochs=null", f"train.max_steps={QUICK_STEPS}", f"train.save_steps={QUICK_STEPS}")
        words = [word for change in (*few, "train.preview=null", *changes) for word in ("--set", change)]
        sample = measured(specgen("run", SPEC, "--stage", "data", "--stage", "train", *words), cwd=self.folder, **self.cache)
        return sample.figures() | of_steps(_metrics(self.folder / "runs" / "assistant"))

    def ours_whole(self) -> Figures:
        """The default spec, all stages."""
        shutil.rmtree(self.folder / "runs", ignore_errors=True)
        sample = measured(specgen("run", SPEC, "--set", f"model.dtype={DTYPE}"), cwd=self.folder, **self.cache)
        return sample.figures() | of_steps(_metrics(self.folder / "runs" / "assistant"))

    def job(self, peer: Peer, **settings: Any) -> Figures:
        """What a script of benchmarks/peers does, in a process of its own."""
        asked = {"base": str(self.base), "steps": STEPS, "batch_size": 8, "learning_rate": 5e-4, "dtype": DTYPE, **settings}
        sample, steps = of_job(peer, self.folder, **asked)
        return sample.figures() | steps


def conversations(build: Path) -> list[list[dict[str, str]]]:
    """The training rows of a compiled folder, each as often as it counts."""
    from runtime.config import load
    from runtime.data.parts import parts_of
    from runtime.data.synthetic import rules_of

    data = load(build).data
    rules = rules_of(data, seed=42)
    parts = [(source, part) for number, source in enumerate(data.sources) for part in parts_of(source, number, seed=42, rows_of=rules)]
    return [row["messages"] for source, part in parts for _, row in part for _ in range(source.repeat)]


def _metrics(run: Path) -> list[dict[str, float]]:
    (file,) = run.glob("train*/metrics.jsonl")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _steps_table(title: str, found: dict[str, Figures], beside: str, note: str = "") -> Table:
    table = Table(title=title, columns=("", "steps/s", f"beside {beside}", "real tokens/s", "peak memory, GB", "process, s"), note=note)
    for way, of in found.items():
        ratio, rate = found[beside]["step"] / of["step"], 1 / of["step"]
        table.rows.append((way, f"{rate:.2f}", f"{ratio:.2f}", f"{of['tokens_s']:,.0f}", f"{of['gb']:.2f}", f"{of['seconds']:.1f}"))
    return table


def show_whole(report: Report, found: dict[str, Figures]) -> None:
    """From the start of the process to an answer of the merged model."""
    columns = ("", "wall seconds", "of TRL's", "CPU seconds", "peak memory, GB", "steps/s")
    note = f"In {DTYPE}. The spec itself says float32, which no processor computes slowly."
    table = Table(title=f"Whole run of the default spec, {WHOLE_STEPS} steps", columns=columns, note=note)
    ours, peer = found[OURS], found[TRL_NAME]
    for way, of in found.items():
        ratio = of["seconds"] / peer["seconds"]
        row = (f"{of['seconds']:.1f}", f"{ratio:.2f}", f"{of['cpu']:.1f}", f"{of['gb']:.2f}", f"{1 / of['step']:.2f}")
        table.rows.append((way, *row))
    report.tables.append(table)
    report.targets += [
        Target(what="whole run, of TRL's wall time as it comes", found=ours["seconds"] / peer["seconds"], most=0.55),
        Target(what="whole run, of TRL's peak memory", found=ours["gb"] / peer["gb"], most=1.0),
    ]


def show_steps(report: Report, found: dict[str, Figures]) -> None:
    """The training step alone; then rows in packs against the same rows in batches."""
    rows = {way: figures for way, figures in found.items() if way != PACKED}
    note = "Rows of 44 to 50 tokens: padding is next to none."
    report.tables.append(_steps_table("Training step, LoRA r 16, 8 rows", rows, TRL_LEAN, note))
    report.tables.append(_steps_table(f"Packed into {PACK} tokens, and not", {way: found[way] for way in (OURS, PACKED)}, OURS))
    step = {way: figures["step"] for way, figures in found.items()}
    packed = found[PACKED]["tokens_s"] / found[OURS]["tokens_s"]
    report.targets += [
        Target(what=f"steps/s beside {TRL_LEAN}", found=step[TRL_LEAN] / step[OURS], least=2),
        Target(what="steps/s beside the plain loop", found=step[LOOP] / step[OURS], least=1),
        Target(what="steps/s beside the loop with all that is known", found=step[BEST] / step[OURS], least=0.95),
        Target(what="packed tokens/s beside those of rows", found=packed, least=1),
    ]


def show_qlora(report: Report, found: dict[str, Figures]) -> None:
    """The base model in 4 bits."""
    report.tables.append(_steps_table("QLoRA, nf4", found, TRL_LEAN))
    ratio = found[TRL_LEAN]["step"] / found[OURS]["step"]
    report.targets.append(Target(what=f"QLoRA steps/s beside {TRL_LEAN}", found=ratio, least=1))


SHOWN = {"whole": show_whole, "steps": show_steps, "qlora": show_qlora}


if __name__ == "__main__":
    main()
