"""Costs against what they grow with, each with a plot: rows of data, the length of rows, the vocabulary, processes.

    python -m benchmarks.scale

Every point is one run, or the median of a run's steps. A cost that grows as the work does is a straight line of slope 1 where both
axes are logarithmic; the slope between the two largest points is what has to hold.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from benchmarks.bench import BASE, PICTURES, Figures, Report, Table, Target, launched, measured, specgen, versions
from benchmarks.data import compiled, stage, write_rows
from benchmarks.steps import of_steps
from benchmarks.train import DTYPE
from runtime.reports.plots import TRAINING, as_svg, style

ROWS = (1_000, 100_000, 2_000_000)
DISTINCT = 100_000  # rows; more of them are these again
LENGTHS = (64, 1024, 4096)
LINE = 4096  # tokens of a step, whatever its rows' length
VOCABULARIES = (32_000, 128_000, 256_000)
PROCESSES = (1, 2)
STEEPEST = 1.15
ATTENTION = 6  # times as long as a product with weights takes an operation of PyTorch's attention on the processor measured first
LAYERS, HIDDEN, BODY = 30, 576, 106_000_000  # SmolLM2-135M: layers, width, weights without the embedding


def main() -> None:
    """Measures how cost grows with rows, lengths and vocabulary; --vocabulary is one process of that."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.vocabulary:
        print(json.dumps(loss_of(arguments.vocabulary)))
        return
    about = "One run a point, in " + DTYPE
    report = Report(name="scale", about=about, runs=1, versions=versions("specgen", "torch", "transformers", "tokenizers"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        add(report, "rows", "rows of data", ROWS, lambda rows: of_rows(folder / str(rows), rows), float)
        add(report, "length", "tokens of a row", LENGTHS, lambda length: of_length(folder, length), work_of_length)
        add(report, "vocabulary", "words of the vocabulary", VOCABULARIES, of_vocabulary, float)
        of_processes(report, folder)
    report.show()


def add(
    report: Report, name: str, what: str, points: Sequence[int], measure: Callable[[int], Figures], work: Callable[[int], float]
) -> None:
    """Measures the points, and adds the table, the plot, and the slope of seconds over work."""
    found = {point: measure(point) for point in tqdm(points, desc=what, disable=not sys.stderr.isatty())}
    report.figures[name] = {str(point): figures for point, figures in found.items()}
    table = Table(title=f"Seconds against {what}", columns=(what, "seconds", "slope from the point before", "peak memory, GB"))
    slopes: list[float] = []
    for before, point in zip([None, *points], points, strict=False):
        if before is not None:
            slopes.append(math.log(found[point]["seconds"] / found[before]["seconds"]) / math.log(work(point) / work(before)))
        slope = f"{slopes[-1]:.2f}" if slopes else ""
        table.rows.append((f"{point:,}", f"{found[point]['seconds']:.3g}", slope, f"{found[point]['gb']:.2f}"))
    report.tables.append(table)
    report.targets.append(Target(what=f"growth with {what}: slope between the two largest", found=slopes[-1], most=STEEPEST))
    draw(report, name, what, [work(point) / work(points[0]) * points[0] for point in points], [found[point]["seconds"] for point in points])


def draw(report: Report, name: str, what: str, works: Sequence[float], seconds: Sequence[float]) -> None:
    """The points on logarithmic axes, with the line that the last but one would go on as."""
    with style() as pyplot:
        figure, axes = pyplot.subplots(figsize=(5, 3), layout="constrained")
        axes.loglog(works, seconds, "o-", color=TRAINING)
        axes.loglog(works, [seconds[-2] * work / works[-2] for work in works], ":", color="gray", label="as the work")
        axes.set(xlabel=what if name != "length" else f"{what}, as the work it makes", ylabel="seconds")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        PICTURES.mkdir(parents=True, exist_ok=True)
        (PICTURES / f"{name}.svg").write_text(as_svg(figure), encoding="utf-8")
    report.pictures.append(f"{name}.svg")


def of_rows(folder: Path, rows: int) -> Figures:
    """The data stage."""
    folder.mkdir()
    write_rows(folder / "some.jsonl", min(rows, DISTINCT))
    with (folder / "rows.jsonl").open("wb") as stream:
        for _ in range(-(-rows // DISTINCT)):
            stream.write((folder / "some.jsonl").read_bytes())
    found = stage(compiled(folder, "rows", "chatml"), rows)
    shutil.rmtree(folder)
    return {"seconds": found["whole_s"], "gb": found["gb"]}


def work_of_length(length: int) -> float:
    """Of a step of so many tokens: products with weights, forward and back, and attention to half of the row, which is dearer."""
    return LINE * (4 * BODY + ATTENTION * 6 * LAYERS * HIDDEN * length)


def of_length(folder: Path, length: int) -> Figures:
    """A training step of one line of tokens, cut into rows of a length."""
    text = "one two three four five six seven eight nine ten " * (length // 10 + 1)
    with (folder / "counts.jsonl").open("w", encoding="utf-8") as stream:
        for number in range(LINE // length * 3):
            messages = [{"role": "user", "content": f"Count {number}."}, {"role": "assistant", "content": text}]
            stream.write(json.dumps({"messages": messages}) + "\n")
    data = {"max_length": length, "overlong": "truncate", "sources": [{"file": {"path": "counts.jsonl"}}]}
    data["limits"] = {"truncated": 1.0}
    return train_of(folder, data, batch=LINE // length, steps=2)


def train_of(folder: Path, data: dict[str, Any], *, batch: int, steps: int, processes: int = 1) -> Figures:
    """A few steps of LoRA: the median of those after the first, and memory."""
    train = {"batch_size": batch, "micro_batch_size": batch // processes, "max_steps": steps, "save_steps": steps, "learning_rate": 1e-4}
    spec = {"specgen": 1, "name": "scale", "model": {"base": BASE, "dtype": DTYPE}, "template": "chatml", "data": data}
    spec |= {"adapter": {"lora": {"r": 16, "alpha": 32, "targets": "all-linear"}}, "train": train}
    spec |= {"distributed": {"processes_per_node": processes}}
    (folder / "scale.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    shutil.rmtree(folder / "runs", ignore_errors=True)
    cache = {"SPECGEN_CACHE": str(folder / "cache")}
    sample = measured(specgen("run", "scale.yaml", "--stage", "data", "--stage", "train"), cwd=folder, **cache)
    (file,) = (folder / "runs" / "scale").glob("train*/metrics.jsonl")
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return {"seconds": statistics.median(line["seconds"] for line in lines[1:]), "gb": sample.peak / 1e9, **of_steps([lines[0], *lines])}


def of_vocabulary(words: int) -> Figures:
    """The output layer's loss, forward and back, in a process of its own that takes its memory as training does."""
    sample = measured([sys.executable, "-m", "benchmarks.scale", "--vocabulary", str(words)], **launched())
    return {**json.loads(sample.output.splitlines()[-1]), "gb": sample.peak / 1e9}


def loss_of(words: int) -> Figures:
    """Seconds of the loss of 512 positions of width 1,024: the median of two."""
    import time

    import torch

    from runtime.models.shaping import Shaping
    from runtime.training.chunks import Targets, chunk_rows, chunked_losses

    torch.manual_seed(0)
    layer = torch.nn.Linear(1024, words, bias=False).requires_grad_(False)
    hidden_ND = torch.randn(512, 1024, requires_grad=True)
    targets = Targets(tokens=torch.randint(words, (512,)), weights=None, label_smoothing=0.0)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        chunked_losses(layer, hidden_ND, targets, Shaping(), rows=chunk_rows(words, "cpu"))[0].backward()
        seconds.append(time.perf_counter() - began)
    return {"seconds": statistics.median(seconds[1:])}


def of_processes(report: Report, folder: Path) -> None:
    """The same step by one process with two threads, and by two with one each."""
    write_rows(folder / "rows.jsonl", 400)
    data = {"max_length": 512, "sources": [{"file": {"path": "rows.jsonl"}}]}
    found = {number: train_of(folder, data, batch=8, steps=6, processes=number) for number in PROCESSES}
    report.figures["processes"] = {str(number): figures for number, figures in found.items()}
    table = Table(title="Processes", columns=("processes", "seconds of a step", "real tokens/s", "largest process, GB"))
    for number, of in found.items():
        table.rows.append((str(number), f"{of['seconds']:.2f}", f"{of['tokens_s']:,.0f}", f"{of['gb']:.2f}"))
    report.tables.append(table)
    with style() as pyplot:
        figure, axes = pyplot.subplots(figsize=(5, 3), layout="constrained")
        axes.bar([str(number) for number in found], [of["tokens_s"] for of in found.values()], color=TRAINING, width=0.5)
        axes.set(xlabel="processes on two cores", ylabel="real tokens a second")
        axes.spines[["top", "right"]].set_visible(False)
        (PICTURES / "processes.svg").write_text(as_svg(figure), encoding="utf-8")
    report.pictures.append("processes.svg")


if __name__ == "__main__":
    main()
