"""runtime/training/watch.py: what is shown and written while training runs, by one process and by several."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from specgen.runfolder import read_run

PREVIEW = {"every": 2, "prompts": ["Count 2."], "max_new_tokens": 2}


@pytest.fixture(scope="module")
def by_processes(tmp_path_factory, compiled):
    """Output and run folder of the same training in so many processes: 2 epochs of 6 rows, 2 of 8 held out."""

    def run(processes):
        folder = tmp_path_factory.mktemp("watch")
        messages = [{"user": "Count {{ n }}."}, {"assistant": "It is {{ n * 111 }}."}]
        source = {"synthetic": {"variables": {"n": list(range(1, 9))}, "messages": messages}}
        train = {"epochs": 2, "learning_rate": 2.0e-4, "preview": PREVIEW}
        data = {"validation": {"fraction": 0.25}, "sources": [source]}
        build = compiled(folder, train=train, data=data, distributed={"processes_per_node": processes})
        command = [sys.executable, "-m", "runtime", build, "--runs-dir", folder, "--stage", "data", "--stage", "train"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines(), folder / "tiny"

    return run


@pytest.fixture(scope="module")
def one(by_processes):
    return by_processes(1)


def lines_of(run, name):
    return [json.loads(line) for line in (run / "train" / name).read_text().splitlines()]


def test_a_file_gets_plain_lines_with_loss_validation_answers_and_eta(one):
    shown, _ = one
    assert any(line.startswith("train    step 3/6  loss ") and "  ETA 0:0" in line for line in shown)
    assert any(line.startswith("train    step 6  validation loss ") and "perplexity" in line for line in shown)
    answers = [line.split()[1] for line in shown if line.startswith("         step ")]
    assert answers == ["0", "2", "4", "6"]
    assert not any("\x1b" in line for line in shown)


def test_the_metrics_have_every_step_and_the_exact_tokens(one):
    _, run = one
    metrics = lines_of(run, "metrics.jsonl")
    names = ["step", "loss", "learning_rate", "grad_norm", "tokens", "trained_tokens", "seconds", "memory_bytes", "loss_spike"]
    assert list(metrics[0]) == names
    assert [metric["step"] for metric in metrics] == [1, 2, 3, 4, 5, 6]
    figures = json.loads((run / "data/stage.json").read_text())["summary"]
    for name in ("tokens", "trained_tokens"):
        by_epoch = [sum(metric[name] for metric in epoch) for epoch in (metrics[:3], metrics[3:])]
        assert by_epoch == [figures[name]] * 2, name
    assert all(100e6 < metric["memory_bytes"] < 10e9 for metric in metrics)


def test_the_progress_stands_at_the_last_step(one):
    progress = read_run(one[1]).progress
    assert (progress["state"], progress["stage"], progress["step"], progress["total"]) == ("stopped", "train", 6, 6)


@pytest.mark.slow
def test_of_two_processes_one_speaks_and_their_tokens_are_summed(one, by_processes):
    shown, run = by_processes(2)
    assert sum(line.startswith("train    step 3/6") for line in shown) == 1
    assert sum(line.startswith("         step 2 ") for line in shown) == 1
    names = ("step", "tokens", "trained_tokens")
    assert [[metric[name] for name in names] for metric in lines_of(run, "metrics.jsonl")] == [
        [metric[name] for name in names] for metric in lines_of(one[1], "metrics.jsonl")
    ]
    assert read_run(run).state == "stopped"
