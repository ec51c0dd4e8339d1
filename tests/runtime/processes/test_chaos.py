"""Whole runs that are killed, preempted or interrupted at random moments, in each stage: the same command ends with the same bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import pytest

from runtime.stages import STAGE_FILE
from tests.runtime.chaos import ENDED_BY, STAGES
from tests.runtime.runs import metrics

FILES = (
    "train/final/adapter_model.safetensors",
    "convert/adapter_model.safetensors",
    "merge/model.safetensors",
    "merge/config.json",
    "merge/generation_config.json",
    "merge/tokenizer.json",
    "merge/chat_template.jinja",
)


@pytest.fixture(scope="module")
def build(tmp_path_factory, compiled):
    """Twelve steps of two micro batches each, in two epochs, with validation and dropout; a checkpoint every two steps."""
    messages = [{"user": "Count {{ n }}."}, {"assistant": "It is {{ n }}."}]
    sources = [{"synthetic": {"variables": {"n": list(range(100, 114))}, "messages": messages}}]
    data = {"sources": sources, "validation": {"rows": 2}}
    train = {"epochs": 2, "batch_size": 2, "micro_batch_size": 1, "save_steps": 2, "save_total_limit": 2}
    return compiled(tmp_path_factory.mktemp("chaos"), data=data, train=train, adapter={"lora": {"dropout": 0.1}})


def runs_of(build, folder, *, kills, seed):
    """What happened to each run, and that it ended as the one that was left alone."""
    command = [sys.executable, "-m", "tests.runtime.chaos", build, folder, str(kills), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    runs = [json.loads(line) for line in done.stdout.splitlines()]
    for run in runs:
        ended_as_if_undisturbed(folder, run)
    broken = Counter(run["stage"] for run in runs if run["starts"][0][1] != 0)
    assert broken.total() == kills
    return broken


def ended_as_if_undisturbed(folder, run):
    log = (folder / f"{run['run']}.log").read_text()
    *broken, (_, last) = run["starts"]
    assert last == 0, (run, log)  # a signal may come when all is done
    assert all(code in ENDED_BY for _, code in broken), (run, log)
    assert "Traceback" not in log, (run, log)
    ours, unbroken = folder / str(run["run"]) / "tiny", folder / "unbroken" / "tiny"
    for file in FILES:
        assert (ours / file).read_bytes() == (unbroken / file).read_bytes(), (file, run, log)
    for stage in STAGES:
        assert json.loads((ours / stage / STAGE_FILE).read_text())["key"] == json.loads((unbroken / stage / STAGE_FILE).read_text())["key"]
    assert [line["step"] for line in metrics(ours)] == [line["step"] for line in metrics(unbroken)]
    assert [line["loss"] for line in metrics(ours)] == [line["loss"] for line in metrics(unbroken)]
    assert sorted(path.name for path in ours.iterdir()) == sorted(path.name for path in unbroken.iterdir())


def test_some_runs_are_killed_and_end_right(build, tmp_path):
    runs_of(build, tmp_path, kills=3, seed=1)


@pytest.mark.slow
def test_thirty_runs_killed_at_seeded_random_moments_end_right(build, tmp_path):
    assert set(runs_of(build, tmp_path, kills=30, seed=20).values()) == {5}
