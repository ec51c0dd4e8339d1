"""specgen merge beside peft's merge_and_unload: seconds and memory, each in a process of its own, on random Llamas in bfloat16.

    python benchmarks/merge.py               models of 0.3 and 2 GB, five runs each
    python benchmarks/merge.py --sizes 8     another size; it needs the disk three times that, and peft the memory

Seconds are of the whole process, imports included; both write safetensors. Memory is the largest anonymous memory that was seen of
the process, every 20 ms: what the kernel cannot let go, as it can the pages of files that are mapped.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tqdm import tqdm

LAYERS = {0.3: 1, 2.0: 18, 8.0: 77}  # a layer has 101 MB, both embeddings together 262 MB
BY_PEFT = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base, adapter, out = sys.argv[1:]
PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16), adapter).merge_and_unload().save_pretrained(out)
"""


def made(folder: Path, layers: int) -> None:
    """A random Llama and a random adapter of rank 16 for all its linear layers."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    from runtime.written import write_weights

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


def measured(command: list[str]) -> tuple[float, float]:
    """Seconds, and the most anonymous memory in GB. Raises CalledProcessError where it fails."""
    began, most = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            most = max(most, _anonymous(process.pid))
            time.sleep(0.02)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return time.perf_counter() - began, most / 1e9


def _anonymous(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=float, nargs="+", choices=LAYERS, default=[0.3, 2.0])
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    found = {}
    print("| model | way | seconds | GB | seconds beside peft | GB beside peft |\n|---|---|---|---|---|---|")
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            made(folder, LAYERS[size])
            words = [str(folder / part) for part in ("base", "adapter", "out")]
            ways = {"peft": [sys.executable, "-c", BY_PEFT, *words], "specgen merge": [sys.executable, "-m", "runtime.merging", *words]}
            runs: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
            for _ in tqdm(range(arguments.runs), desc=f"{size} GB", disable=not sys.stderr.isatty()):
                for way, command in ways.items():
                    shutil.rmtree(folder / "out", ignore_errors=True)
                    runs[way].append(measured(command))
        medians = {way: tuple(statistics.median(column) for column in zip(*figures, strict=True)) for way, figures in runs.items()}
        for way, (seconds, memory) in medians.items():
            ratios = f"{seconds / medians['peft'][0]:.2f} | {memory / medians['peft'][1]:.2f}"
            print(f"| {size} GB | {way} | {seconds:.1f} | {memory:.2f} | {ratios} |", flush=True)
        found[str(size)] = {way: {"seconds": pair[0], "gigabytes": pair[1]} for way, pair in medians.items()}
    Path(__file__).with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
