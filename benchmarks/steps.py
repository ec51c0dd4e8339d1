"""Training steps by others: a job for a script of benchmarks/peers, in an environment of its own, and what its steps tell."""

from __future__ import annotations

import json
import shutil
import statistics
from pathlib import Path
from typing import Any

from benchmarks.bench import ROOT, Figures, Peer, Sample, launched, measured

WARM_UP = 2  # steps


def of_job(peer: Peer, folder: Path, **asked: Any) -> tuple[Sample, Figures]:
    """Has a peer do what is asked with the rows of rows.json in a folder: its process, and its steps.

    Asked for are `base`, `steps`, `batch_size`, `learning_rate` and `dtype`, and what differs from the rest of a job (peers/job.py).
    """
    out, timings = folder / "out", folder / "timings.json"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    job: dict[str, Any] = {"rows": str(folder / "rows.json"), "out": str(out), "timings": str(timings), "pack": None, "nf4": False}
    job |= {"is_whole": False, "checkpointing": None, "best": False, "on_gpu": False, **asked}
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    script = ROOT / "benchmarks" / "peers" / f"by_{peer.name}.py"
    environment = peer.environment | (launched() if job["best"] else {})
    sample = measured([peer.python, script, "job.json"], cwd=folder, **environment)
    return sample, of_steps(json.loads(timings.read_text(encoding="utf-8")))


def of_steps(steps: list[dict[str, float]]) -> Figures:
    """Of the steps after the warm-up: the median of their seconds, and their real tokens a second."""
    counted = steps[WARM_UP:]
    seconds = [step["seconds"] for step in counted]
    return {"step": statistics.median(seconds), "tokens_s": sum(step["tokens"] for step in counted) / sum(seconds)}
