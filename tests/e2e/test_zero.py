"""DeepSpeed for real: two processes, every stage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.commands import ASSISTANT, specgen


@pytest.mark.parametrize("stage", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_two_processes_train_with_zero_through_every_stage(stage: int, tmp_path: Path) -> None:
    settings = ("--set", "train.epochs=2", "--set", "train.preview.max_new_tokens=8")
    done = specgen("run", ASSISTANT, "--profile", f"zero{stage}", *settings, cwd=tmp_path)
    assert done.code == 0, done.output
    assert "✓ Who are you? → I am Aria, the assistant of the Example team." in done.output
    run = tmp_path / f"runs/assistant-zero{stage}"
    manifest = json.loads((run / "manifest.json").read_text())
    assert list(manifest) == ["convert", "data", "merge", "report", "smoke", "train"]
    assert manifest["train"]["summary"]["world_size"] == 2
    assert manifest["train"]["summary"]["steps"] == 20
    checkpoint = run / "train/checkpoint-20/global_step20"
    assert len(list(checkpoint.glob("*zero_pp_rank_*_optim_states.pt"))) == 2, "DeepSpeed shares the optimizer out"


def test_missing_build_tools_are_named(tmp_path: Path) -> None:
    data = specgen("run", ASSISTANT, "--profile", "zero2", "--stage", "data", cwd=tmp_path)
    assert data.code == 0, data.output
    done = specgen("run", ASSISTANT, "--profile", "zero2", "--stage", "train", cwd=tmp_path, PATH=str(tmp_path))
    assert done.code == 2
    assert "error SG436: DeepSpeed compiles a helper, and needs g++ and ninja" in done.output
