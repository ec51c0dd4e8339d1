"""specgen merge beside peft's merge_and_unload: seconds and memory, each in a process of its own, on random Llamas in bfloat16.

    python -m benchmarks.merge                a model of 0.3 GB; those of other sizes stay as they were measured last
    python -m benchmarks.merge --sizes 2 8    others; they need the disk three times that, and peft the memory

Seconds are of the whole process, imports included; both write safetensors. Memory is the largest anonymous memory that was seen of
the process, every 20 ms: what the kernel cannot let go, as it can the pages of files that are mapped.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.bench import RUNS, Figures, Report, Table, Target, before, medians, versions
from specgen.schema import default_of

LAYERS = {0.3: 1, 2.0: 18, 8.0: 77}  # a layer has 101 MB, both embeddings together 262 MB
LARGEST_GB = 0.131  # an embedding
PEFT, OURS = "peft", "specgen merge"
# what specgen merge gives its program where nothing else is asked for
KEYS = {"max-shard-size": "max_shard_size", "device": "device", "into": "base", "layout": "layout"}  # of export.merged
OPTIONS = ("--dtype=auto", "--format=safetensors", *(f"--{word}={default_of(f'export.merged.{key}')}" for word, key in KEYS.items()))
BY_PEFT = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base, adapter, out = sys.argv[1:]
PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16), adapter).merge_and_unload().save_pretrained(out)
"""


def main() -> None:
    """Measures merges of models of several sizes and shows the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=float, nargs="+", choices=LAYERS, default=[0.3])
    parser.add_argument("--runs", type=int, default=RUNS)
    arguments = parser.parse_args()
    report = Report(
        name="merge", about="An adapter merged into random Llamas", versions=versions("specgen", "peft", "transformers", "torch")
    )
    report.runs = arguments.runs
    report.figures = before("merge")
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            made(folder, LAYERS[size])
            words = [str(folder / part) for part in ("base", "adapter", "out")]
            ways = {
                PEFT: [sys.executable, "-c", BY_PEFT, *words],
                OURS: [sys.executable, "-m", "runtime.conversion.merging", *words, *OPTIONS],
            }
            found = {way: partial(measured, command, folder / "out") for way, command in ways.items()}
            report.figures[str(size)] = medians(found, runs=arguments.runs, what=f"{size} GB")
    show(report)
    report.show()


def show(report: Report) -> None:
    """The table, and what has to hold."""
    table = Table(title="Merge", columns=("model, GB", "", "seconds", "of peft's", "memory, GB", "of peft's"))
    for size, found in sorted(report.figures.items()):
        peft = found[PEFT]
        for way, of in found.items():
            row = (f"{of['seconds']:.1f}", f"{of['seconds'] / peft['seconds']:.2f}", f"{of['gb']:.2f}", f"{of['gb'] / peft['gb']:.2f}")
            table.rows.append((size, way, *row))
        report.targets.append(Target(what=f"{size} GB: of peft's seconds", found=found[OURS]["seconds"] / peft["seconds"], most=1))
        report.targets.append(Target(what=f"{size} GB: of peft's memory", found=found[OURS]["gb"] / peft["gb"], most=1))
    if len(report.figures) > 1:
        smallest, largest = (report.figures[size][OURS]["gb"] for size in (min(report.figures), max(report.figures)))
        what = f"memory beyond that for the smallest model, in largest tensors ({LARGEST_GB} GB)"
        report.targets.append(Target(what=what, found=(largest - smallest) / LARGEST_GB, most=1))
    report.tables.append(table)


def made(folder: Path, layers: int) -> None:
    """A random Llama and a random adapter of rank 16 for all its linear layers."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    from runtime.weights.written import write_weights

    sizes = {"hidden_size": 2048, "intermediate_size": 5504, "num_hidden_layers": layers, "num_attention_heads": 16}
    config = LlamaConfig(vocab_size=32_000, dtype="bfloat16", tie_word_embeddings=False, **sizes)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(0)
    kinds = {name: (list(tensor.shape), torch.bfloat16) for name, tensor in model.state_dict().items()}
    (folder / "base").mkdir()
    write_weights(kinds, lambda name: torch.randn(kinds[name][0], generator=generator) / 50, folder / "base", max_shard_size="2GB")
    config.save_pretrained(folder / "base")
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear"))
    named = {name.replace(".default", ""): tensor for name, tensor in adapted.state_dict().items() if "lora_" in name}
    factors = {name: (list(tensor.shape), torch.float32) for name, tensor in named.items()}
    (folder / "adapter").mkdir()
    options = {"max_shard_size": "2GB", "of": "adapter"}
    write_weights(factors, lambda name: torch.randn(factors[name][0], generator=generator) / 50, folder / "adapter", **options)
    adapted.peft_config["default"].save_pretrained(str(folder / "adapter"))


def measured(command: list[str], out: Path) -> Figures:
    """Seconds, and the most anonymous memory in GB. Raises CalledProcessError where it fails."""
    shutil.rmtree(out, ignore_errors=True)
    began, most = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            most = max(most, _anonymous(process.pid))
            time.sleep(0.02)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return {"seconds": time.perf_counter() - began, "gb": most / 1e9}


def _anonymous(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)


if __name__ == "__main__":
    main()
