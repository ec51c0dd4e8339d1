"""Large models on one GPU: tokens a second, the share of the card's peak, and peak memory beside the plan's, by specgen and by TRL.

    python -m benchmarks.gpu          skips with a message where there is no NVIDIA GPU
    python -m benchmarks.gpu --tiny   the same path with a small model, on any device: to see that it works

Weights are random, in the shapes of the published models; rows of text fill packs of 4,096 tokens. The share of the peak (MFU) counts
what LoRA makes necessary: a forward pass and the gradients of activations, 4 operations a weight and token, and attention's. For
orientation: NeMo Automodel's published 12,473 tokens/s for LoRA on Llama-3-8B, one H100.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from benchmarks.bench import ROOT, RUNS, TRL, Figures, Report, Table, base_in, measured, medians, specgen, versions
from benchmarks.steps import of_job, of_steps

PACK = 4096
STEPS = 8
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "RTX 4090": 165e12}  # dense bfloat16, by the makers' data sheets


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A Llama by its sizes; `weights` without the embedding."""

    name: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    pack: int = PACK

    @property
    def weights(self) -> int:
        """Those that each token is multiplied with, the output layer among them."""
        attention = 2 * self.hidden**2 + 2 * self.hidden * self.hidden * self.kv_heads // self.heads
        return self.layers * (attention + 3 * self.hidden * self.intermediate) + self.hidden * self.vocabulary

    @property
    def operations(self) -> float:
        """Of a token of a full pack, forward and back; half of the pack is before a token in the mean."""
        return 4.0 * self.weights + 6.0 * self.layers * self.hidden * self.pack


SHAPES = (
    Shape(name="InternLM2-1.8B", hidden=2048, intermediate=8192, layers=24, heads=16, kv_heads=8, vocabulary=92_544),
    Shape(name="Llama-3.1-8B", hidden=4096, intermediate=14_336, layers=32, heads=32, kv_heads=8, vocabulary=128_256),
)
TINY = (Shape(name="tiny", hidden=64, intermediate=128, layers=2, heads=4, kv_heads=2, vocabulary=50_000, pack=256),)


def main() -> None:
    """Measures on the GPU that is here, or with --tiny that all of it runs at all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--runs", type=int, default=RUNS)
    arguments = parser.parse_args()
    card = card_of()
    if card is None and not arguments.tiny:
        print("no NVIDIA GPU here: the figures of a GPU stay as they were measured last")
        return
    packages = versions("specgen", "torch", "transformers", "peft", "bitsandbytes", "flash-attn") | {"trl": TRL.version()}
    about = f"LoRA r 16 and QLoRA on random weights, packs full, {card or 'no GPU'}"
    report = Report(name="gpu", about=about, runs=arguments.runs, versions=packages)
    for shape in TINY if arguments.tiny else SHAPES:
        with tempfile.TemporaryDirectory() as name:
            bench = Bench(Path(name), shape, on_gpu=card is not None)
            ways = {}
            for way in ("LoRA", "QLoRA"):
                ways[f"specgen, {way}"] = partial(bench.ours, nf4=way == "QLoRA")
                ways[f"TRL, {way}"] = partial(bench.trl, nf4=way == "QLoRA")
            found = medians(ways, runs=arguments.runs, what=shape.name)
        report.figures[shape.name] = found
        report.tables.append(table_of(shape, found, card))
    if arguments.tiny:
        print("\n".join(table.markdown() for table in report.tables))
    else:
        report.show()


class Bench:
    """A folder with a random model, a tokenizer and rows of text."""

    def __init__(self, folder: Path, shape: Shape, *, on_gpu: bool) -> None:
        self.folder, self.shape, self.on_gpu = folder, shape, on_gpu
        self.base = folder / "base"
        made(self.base, shape)
        chance = random.Random(0)  # noqa: S311  (chance, not secrecy)
        words = [word for word in (ROOT / "docs" / "reference" / "spec.md").read_text(encoding="utf-8").split() if word.isalpha()]
        length = min(600, shape.pack // 4)
        texts = [" ".join(chance.choices(words, k=length)) for _ in range(STEPS * 2 * shape.pack // length)]
        rows = [[{"role": "user", "content": "Write."}, {"role": "assistant", "content": text}] for text in texts]
        (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
        lines = "".join(json.dumps({"messages": row}) + "\n" for row in rows)
        (folder / "rows.jsonl").write_text(lines, encoding="utf-8")

    def ours(self, *, nf4: bool) -> Figures:
        """Data and training by specgen; `plan_gb` is what it said before."""
        quantization = {"quantization": {"nf4": {}}} if nf4 else {}
        model = {"base": str(self.base), "dtype": "bfloat16", **quantization}
        data = {"max_length": self.shape.pack, "packing": True, "sources": [{"file": {"path": "rows.jsonl"}}]}
        train = {"batch_size": 1, "micro_batch_size": 1, "max_steps": STEPS, "save_steps": STEPS, "learning_rate": 1e-4}
        spec = {"specgen": 1, "name": "ours", "model": model, "template": "chatml", "data": data, "train": train}
        spec["adapter"] = {"lora": {"r": 16, "alpha": 32, "targets": "all-linear"}}
        (self.folder / "ours.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
        shutil.rmtree(self.folder / "runs", ignore_errors=True)
        measured(specgen("run", "ours.yaml", "--stage", "data", "--stage", "train"), cwd=self.folder)
        (file,) = (self.folder / "runs" / "ours").glob("train*/metrics.jsonl")
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        summary = json.loads((self.folder / "runs" / "ours" / "train" / "stage.json").read_text(encoding="utf-8"))["summary"]
        plan = json.loads(measured(specgen("plan", "ours.yaml", "--format", "json"), cwd=self.folder).output)
        return {**of_steps(lines), "gb": summary["peak_memory_bytes"] / 1e9, "plan_gb": plan["memory"]["together"] / 1e9}

    def trl(self, *, nf4: bool) -> Figures:
        """The same packs by TRL."""
        asked = {"base": str(self.base), "steps": STEPS, "batch_size": 1, "learning_rate": 1e-4, "dtype": "bfloat16"}
        asked |= {"pack": self.shape.pack, "nf4": nf4, "checkpointing": False, "on_gpu": self.on_gpu}
        sample, steps = of_job(TRL, self.folder, **asked)
        said = next((line for line in sample.output.splitlines() if line.startswith("peak bytes:")), "peak bytes: 0")
        return {**steps, "gb": float(said.split()[-1]) / 1e9}


def made(folder: Path, shape: Shape) -> None:
    """A random Llama in bfloat16, with SmolLM2's tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from runtime.weights.written import write_weights

    sizes = {"hidden_size": shape.hidden, "intermediate_size": shape.intermediate, "num_hidden_layers": shape.layers}
    heads = {"num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads, "max_position_embeddings": 32_768}
    config = LlamaConfig(vocab_size=shape.vocabulary, dtype="bfloat16", tie_word_embeddings=False, **sizes, **heads)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(0)
    kinds = {name: (list(tensor.shape), torch.bfloat16) for name, tensor in model.state_dict().items()}
    with tempfile.TemporaryDirectory() as name:
        base = base_in(Path(name))
        shutil.copytree(base, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    write_weights(kinds, lambda name: torch.randn(kinds[name][0], generator=generator) / 50, folder, max_shard_size="5GB")
    config.save_pretrained(folder)


def card_of() -> str | None:
    """The name of the first NVIDIA GPU."""
    words = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    if shutil.which(words[0]) is None:
        return None
    done = subprocess.run(words, capture_output=True, text=True)
    return done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout.strip() else None


def table_of(shape: Shape, found: dict[str, Figures], card: str | None) -> Table:
    """Tokens a second and what they mean."""
    peak = next((number for name, number in PEAKS.items() if card and name in card), None)
    table = Table(
        title=f"{shape.name}, {shape.pack:,} tokens",
        columns=("", "real tokens/s", "beside TRL", "MFU", "peak memory, GB", "by the plan, GB"),
    )
    for way, of in found.items():
        theirs = found[f"TRL, {way.rpartition(', ')[2]}"]["tokens_s"]
        mfu = f"{of['tokens_s'] * shape.operations / peak:.0%}" if peak else ""
        plan = f"{of['plan_gb']:.1f}" if "plan_gb" in of else ""
        table.rows.append((way, f"{of['tokens_s']:,.0f}", f"{of['tokens_s'] / theirs:.2f}", mfu, f"{of['gb']:.1f}", plan))
    return table


if __name__ == "__main__":
    main()
