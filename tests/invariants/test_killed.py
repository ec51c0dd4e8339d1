"""A run that is killed (SIGKILL) at any moment, also while a checkpoint is written: the same command ends with the same bytes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runtime.stages import read_stage
from runtime.training import checkpoints
from tests.invariants.killed_at import MOMENTS

STAGES = ("data", "train", "convert")
SAID = {
    "within_a_step": ["train    goes on from checkpoint-4"],
    "half_written": [
        "train    checkpoint-4 was being written when the last run ended: what there is of it is removed",
        "train    goes on from checkpoint-2",
    ],
    "while_hashing": [
        "train    checkpoint-4 was being written when the last run ended: what there is of it is removed",
        "train    goes on from checkpoint-2",
    ],
    "before_the_rename": [
        "train    checkpoint-6 was being written when the last run ended: what there is of it is removed",
        "train    goes on from checkpoint-4",
    ],
    "while_removing": ["train    goes on from checkpoint-6"],
    "after_training": ["train    goes on from checkpoint-8"],
    "before_the_output_is_renamed": [],
    "while_converting": [],
}


@pytest.fixture(scope="module")
def build(tmp_path_factory, compiled):
    """Eight steps of two micro batches each, in two epochs; dropout; a checkpoint every two steps, of which two stay."""
    messages = [{"user": "Count {{ n }}."}, {"assistant": "It is {{ n }}."}]
    data = {"sources": [{"synthetic": {"variables": {"n": list(range(100, 108))}, "messages": messages}}]}
    train = {"epochs": 2, "batch_size": 2, "micro_batch_size": 1, "save_steps": 2, "save_total_limit": 2}
    return compiled(tmp_path_factory.mktemp("killed"), data=data, train=train, adapter={"lora": {"dropout": 0.1}})


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, build, carried_out):
    return carried_out(build, tmp_path_factory.mktemp("unbroken"), *STAGES)


@pytest.fixture(scope="module")
def killed(tmp_path_factory, build):
    """Moment → the run folder of a process that was killed then."""
    folder = tmp_path_factory.mktemp("moments")
    done = subprocess.run([sys.executable, "-m", "tests.invariants.killed_at", build, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return lambda moment: folder / moment / "tiny"


@pytest.mark.parametrize("moment", [moment.__name__ for moment in MOMENTS])
def test_the_same_command_ends_with_the_same_bytes(killed, unbroken, build, carried_out, capsys, moment):
    run = killed(moment)
    carried_out(build, run.parent, *STAGES)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("train") and "attention" not in line]
    assert lines[: len(SAID[moment])] == SAID[moment]
    for file in ("train/final/adapter_model.safetensors", "convert/adapter_model.safetensors"):
        assert (run / file).read_bytes() == (unbroken / file).read_bytes()
    assert read_stage(run, "train")["summary"]["steps"] == 8
    kept = sorted(path.name for path in (run / "train").iterdir() if path.name.startswith("checkpoint"))
    assert kept == ["checkpoint-6", "checkpoint-8"]
    assert [checkpoints.problem_of(run / "train" / name) for name in kept] == [None, None]
    assert not [path.name for path in Path(run).iterdir() if path.name.endswith((".partial", ".removing"))]
