"""python -m tests.support.worker FOLDER NAME …: trains one compiled combination after another in this process, or with torchrun in
each of several; what came of each is a line of FOLDER/results.jsonl."""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys
import time
from pathlib import Path

from runtime.starting import leave, quiet


def main(folder: Path, names: list[str]) -> None:
    quiet()
    for name in names:
        started = time.monotonic()
        try:
            outcome = {"losses": trained(folder / name)}
        except Exception as error:
            outcome = {"error": f"{type(error).__name__}: {error}"}
        if os.environ.get("RANK", "0") == "0":
            line = {"name": name, **outcome, "seconds": round(time.monotonic() - started, 1)}
            with (folder / "results.jsonl").open("a") as stream:
                stream.write(json.dumps(line) + "\n")
            shutil.rmtree(folder / name / "train", ignore_errors=True)
        forget()


def trained(folder: Path) -> list[float]:
    """The losses of the steps of a compiled combination, whose data lie in FOLDER/data."""
    from runtime import config as configs
    from runtime.stages import read_stage
    from runtime.training.schedule import settled
    from runtime.training.train import train

    config = settled(configs.load(folder / "build"), read_stage(folder, "data")["summary"])
    (folder / "train").mkdir(exist_ok=True)
    train(config, folder, folder / "train", build=folder / "build")
    return [json.loads(line)["loss"] for line in (folder / "train" / "metrics.jsonl").read_text().splitlines()]


def forget() -> None:
    """What accelerate and transformers keep of a run for the rest of a process; the process group stays."""
    from accelerate.state import AcceleratorState, GradientState
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    AcceleratorState._reset_state()
    GradientState._reset_state()
    unset_hf_deepspeed_config()
    gc.collect()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
    leave(0)
