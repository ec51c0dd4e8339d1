"""Runs that go on with another number of processes: torchrun and gloo for real, plain data parallelism and ZeRO 1, 2 and 3."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from runtime.models.adapter import read_adapter
from runtime.stages import read_stage
from runtime.training.saving import shapes
from tests.runtime.unfinished import unfinished

pytestmark = pytest.mark.slow

MESSAGES = [{"user": "Count {{ n }}."}, {"assistant": "It is {{ n }}."}]
DATA = {"sources": [{"synthetic": {"variables": {"n": list(range(100, 116))}, "messages": MESSAGES}}]}
# two epochs of four steps; the checkpoint of step 2 lies within an epoch
TRAIN = {"epochs": 2, "batch_size": 4, "micro_batch_size": 1, "save_steps": 2, "save_total_limit": 9, "learning_rate": 1.0e-3}
STAGES = [0, 1, 2, 3]


@pytest.fixture(scope="module")
def spec(tmp_path_factory, compiled):
    """Compiles the run for a ZeRO stage and a number of processes, with settings laid over the training."""

    def compile_for(stage, processes, **train):
        folder = tmp_path_factory.mktemp("spec")
        return compiled(folder, data=DATA, train=TRAIN | train, distributed={"processes_per_node": processes, "zero_stage": stage})

    return compile_for


def run(build, runs_dir, *options):
    command = [sys.executable, "-m", "runtime", build, "--runs-dir", runs_dir, "--stage", "data", "--stage", "train", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, spec):
    """(ZeRO stage, processes) → the run folder of a run that nothing interrupts."""
    made = {}

    def of(stage, processes):
        if (stage, processes) not in made:
            folder = tmp_path_factory.mktemp("unbroken")
            done = run(spec(stage, processes), folder)
            assert done.returncode == 0, done.stderr
            made[stage, processes] = folder / "tiny"
        return made[stage, processes]

    return of


def losses(train):
    return [json.loads(line)["loss"] for line in (train / "metrics.jsonl").read_text().splitlines()]


def farthest(one, other):
    first, second = read_adapter(one / "train" / "final"), read_adapter(other / "train" / "final")
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_run_of_two_processes_ends_as_one_that_was_never_interrupted(unbroken, spec, tmp_path, stage):
    again = unfinished(unbroken(stage, 2), tmp_path, 2)
    done = run(spec(stage, 2), tmp_path)
    assert done.returncode == 0, done.stderr
    assert "goes on from checkpoint-2" in done.stdout
    assert farthest(unbroken(stage, 2), again) <= 1e-6
    assert losses(again / "train") == pytest.approx(losses(unbroken(stage, 2) / "train"), abs=1e-6)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(("before", "now"), [(2, 1), (1, 2)])
def test_another_number_of_processes_trains_the_same_steps(unbroken, spec, tmp_path, stage, before, now):
    again = unfinished(unbroken(stage, before), tmp_path, 2)
    build = spec(stage, now)
    refused = run(build, tmp_path)
    assert refused.returncode == 2
    assert f"  distributed.processes_per_node: {before} → {now}  (the same rows in each optimizer step, shared out anew)" in refused.stderr
    done = run(build, tmp_path, "--accept-change")
    assert done.returncode == 0, done.stderr
    assert f"train    goes on with another distributed.processes_per_node: {before} → {now}" in done.stdout
    assert ("checkpoint-2 is made universal" in done.stdout) == (stage > 0)
    assert losses(again / "train") == pytest.approx(losses(unbroken(stage, before) / "train"), abs=1e-5)
    assert farthest(unbroken(stage, before), again) < 1e-5
    assert read_stage(again, "train")["summary"]["world_size"] == now
    assert not list((again / "train").glob("universal*"))


@pytest.mark.parametrize("stage", [2, 3])
def test_complaint_22_no_tensor_that_is_saved_is_empty(unbroken, stage):
    """Every checkpoint and the result, under ZeRO: 2 tensors for each of 7 modules in 2 layers (peers.md, complaint 22)."""
    folders = [*(unbroken(stage, 2) / "train").glob("checkpoint-*"), unbroken(stage, 2) / "train" / "final"]
    assert len(folders) == 5
    for folder in folders:
        saved = shapes(folder)
        assert len(saved) == 28
        assert all(size > 0 for shape in saved.values() for size in shape)


def test_complaint_19_the_best_checkpoint_under_zero_is_whole_and_goes_on(tmp_path, compiled):
    """Optimizer states are in it, and taking it as the result loads nothing (peers.md, complaint 19)."""
    data = {**DATA, "validation": {"fraction": 0.5}}
    train = {**TRAIN, "learning_rate": 3.0, "schedule": "constant", "eval_steps": 1, "save_steps": 100, "save_total_limit": 1}
    distributed = {"processes_per_node": 2, "zero_stage": 3}
    build = compiled(tmp_path, data=data, train={**train, "load_best_model_at_end": True}, distributed=distributed)
    done = run(build, tmp_path / "whole")
    assert done.returncode == 0, done.stderr
    train = tmp_path / "whole" / "tiny" / "train"
    state = json.loads((train / "checkpoint-4" / "trainer_state.json").read_text())
    best = train / f"checkpoint-{state['best_global_step']}"
    assert len(list(best.glob("global_step*/*_optim_states.pt"))) == 2
    name = "adapter_model.safetensors"
    assert (train / "final" / name).read_bytes() == (best / name).read_bytes()
    again = unfinished(train.parent, tmp_path / "again", state["best_global_step"])
    done = run(build, tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert farthest(train.parent, again) <= 1e-6


@pytest.mark.parametrize("stage", [2, 3])
def test_another_learning_rate_holds_under_zero(unbroken, spec, tmp_path, stage):
    again = unfinished(unbroken(stage, 2), tmp_path, 2)
    done = run(spec(stage, 2, learning_rate=5.0e-4), tmp_path, "--accept-change")
    assert done.returncode == 0, done.stderr
    first, second = (
        [json.loads(line)["learning_rate"] for line in (folder / "train" / "metrics.jsonl").read_text().splitlines()]
        for folder in (unbroken(stage, 2), again)
    )
    assert second == pytest.approx([*first[:2], *(rate / 2 for rate in first[2:])], rel=1e-9)
    assert 1e-5 < farthest(unbroken(stage, 2), again) < 1e-2
