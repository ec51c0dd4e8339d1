"""A finished run as it was when its process was killed, right after a checkpoint."""

from __future__ import annotations

import shutil


def unfinished(run, runs_dir, step):
    """A copy of the run folder in `runs_dir`, without what was there only after `step`."""
    copy = shutil.copytree(run, runs_dir / run.name)
    for name in ("convert", "merge", "smoke", "report", "train/final"):
        shutil.rmtree(copy / name, ignore_errors=True)
    (copy / "train").rename(copy / "train.partial")
    (copy / "train.partial" / "stage.json").unlink()
    for checkpoint in (copy / "train.partial").glob("checkpoint-*"):
        if int(checkpoint.name.rpartition("-")[2]) > step:
            shutil.rmtree(checkpoint)
    return copy
