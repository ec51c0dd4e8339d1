"""The output layer's loss in chunks, against the plain computation: seconds and memory, forward and backward, each in its own process.

    python benchmarks/loss.py            DESIGN's size: 92,544 words, hidden size 2,048, 4,096 tokens of which 30 % are trained
    python benchmarks/loss.py --small    a tenth of the tokens

Plain is the output layer and PyTorch's cross entropy on the logits of all tokens in float32, as a model computes them that is
given labels. Memory is the peak of the process above its state before, weights and hidden states not counted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

VOCABULARY, HIDDEN, TOKENS, TRAINED_SHARE = 92_544, 2_048, 4_096, 0.3
WAYS = ("plain, all tokens", "plain, trained tokens", "chunks, all tokens", "chunks, trained tokens")
DTYPES = ("float32", "bfloat16")


def step(way: str, dtype: str, tokens: int, *, head_is_trained: bool) -> dict[str, float]:
    """One forward and backward pass, after one of a few rows."""
    import torch
    from torch import nn
    from torch.nn import functional

    from runtime.models.shaping import Shaping
    from runtime.training.chunks import Targets, chunk_rows, chunked_losses

    torch.manual_seed(0)
    layer = nn.Linear(HIDDEN, VOCABULARY, bias=False).to(getattr(torch, dtype)).requires_grad_(head_is_trained)
    hidden_TD = torch.randn(tokens, HIDDEN).to(getattr(torch, dtype))
    labels_T = torch.randint(VOCABULARY, (tokens,))
    kept_T = torch.rand(tokens) < TRAINED_SHARE if "trained" in way else torch.ones(tokens, dtype=torch.bool)
    rows = chunk_rows(VOCABULARY, "cpu", trained_columns=HIDDEN if head_is_trained else 0)

    def loss_of(hidden_ND: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
        if way.startswith("plain"):
            return functional.cross_entropy(layer(hidden_ND).float(), targets_N, reduction="sum")
        targets = Targets(tokens=targets_N, weights=None, label_smoothing=0.0)
        return chunked_losses(layer, hidden_ND, targets, Shaping(), rows=rows)[0]

    loss_of(hidden_TD[:16].clone().requires_grad_(), labels_T[:16]).backward()
    layer.weight.grad = None
    hidden_ND, targets_N = hidden_TD[kept_T].requires_grad_(), labels_T[kept_T]
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, began, worked = status("VmRSS"), time.perf_counter(), time.process_time()
    loss = loss_of(hidden_ND, targets_N)
    loss.backward()
    seconds, cpu = time.perf_counter() - began, time.process_time() - worked
    return {"seconds": seconds, "cpu": cpu, "bytes": status("VmHWM") - before, "loss": float(loss.detach()) / len(targets_N)}


def status(key: str) -> int:
    """A line of /proc/self/status, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Measures each way to the loss in a process of its own; --step is such a process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--step", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        way, dtype, tokens, trained = arguments.step
        print(json.dumps(step(way, dtype, int(tokens), head_is_trained=trained == "trained")))
        return
    tokens = TOKENS // 10 if arguments.small else TOKENS
    print("| output layer | dtype | way | seconds | CPU seconds | GB | loss a token |\n|---|---|---|---|---|---|---|")
    for head in ("frozen", "trained"):
        for dtype in DTYPES:
            for way in WAYS:
                command = [sys.executable, __file__, "--step", way, dtype, str(tokens), head]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found = json.loads(done.stdout.splitlines()[-1])
                figures = f"{found['seconds']:.1f} | {found['cpu']:.1f} | {found['bytes'] / 1e9:.2f} | {found['loss']:.5f}"
                print(f"| {head} | {dtype} | {way} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
