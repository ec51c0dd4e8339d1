"""runtime/training/trackers.py: the metrics reach each tracker that is installed, into the run folder and without a network."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from runtime.packages import require_trackers
from runtime.training import trackers
from runtime.training.trackers import Trackers

STAGES = ("--stage", "data", "--stage", "train")
OFFLINE = {"WANDB_MODE": "offline", "SWANLAB_MODE": "local"}
NO_NETWORK = """
import socket, sys
def refused(*arguments): raise OSError("a connection was tried: " + repr(arguments))
socket.getaddrinfo = refused
from runtime import __main__
sys.exit(__main__.main())
"""


def run(build, runs, **environment):
    """The data and train stages in a process of their own, in which no name resolves."""
    command = [sys.executable, "-c", NO_NETWORK, build, "--runs-dir", runs, *STAGES]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **OFFLINE, **environment})
    assert done.returncode == 0, done.stdout + done.stderr
    return runs / "tiny"


def test_a_tracker_that_is_not_installed_is_told_before_the_data_are_made(tmp_path, configured, fault_of, monkeypatch):
    from runtime.run import pipeline

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "swanlab" else found(name))
    config = configured(tmp_path, train={"report_to": ["swanlab"]})
    told = fault_of(pipeline.run, config, build=tmp_path / "build", runs_dir=tmp_path / "runs", only=(), talk="")
    assert told == (
        "error SG464: train.report_to names swanlab, and its package is not installed\n  hint: pip install swanlab, or leave swanlab out"
    )
    assert not (tmp_path / "runs/tiny/data").exists()


def test_no_tracker_needs_no_package():
    require_trackers(())


def test_tensorboard_has_every_figure_of_every_step_and_the_perplexity(tmp_path, compiled):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    build = compiled(tmp_path, train={"report_to": ["tensorboard"], "epochs": 2}, data={"validation": {"fraction": 0.25}})
    folder = run(build, tmp_path / "runs")
    events = accumulator.EventAccumulator(str(folder / "logs/tensorboard"))
    events.Reload()
    metrics = [json.loads(line) for line in (folder / "train/metrics.jsonl").read_text().splitlines()]
    for name in ("loss", "learning_rate", "grad_norm", "tokens", "trained_tokens", "memory_bytes"):
        logged = [(point.step, point.value) for point in events.Scalars(f"train/{name}")]
        assert logged == [(metric["step"], pytest.approx(metric[name], rel=1e-6)) for metric in metrics], name
    validation = [json.loads(line) for line in (folder / "train/validation.jsonl").read_text().splitlines()]
    logged = [(point.step, point.value) for point in events.Scalars("eval/perplexity")]
    assert logged == [(point["step"], pytest.approx(point["perplexity"], rel=1e-5)) for point in validation]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio", "swanlab"])
def test_a_tracker_keeps_the_run_in_its_folder_without_a_network(tmp_path, compiled, name):
    pytest.importorskip(name)
    folder = run(compiled(tmp_path, train={"report_to": [name], "epochs": 1}), tmp_path / "runs")
    kept = [file for file in (folder / "logs" / name).rglob("*") if file.is_file()]
    assert kept, f"nothing below {folder / 'logs' / name}"
    assert not {"wandb", "mlruns", "swanlog", "trackio"} & {path.name for path in tmp_path.iterdir()}


class Failing:
    """A tracker that does not work."""

    def __init__(self, *, starts):
        self.starts = starts

    def on_train_begin(self, *_, **__):
        if not self.starts:
            raise ConnectionError("no server at https://example.invalid\nmore lines")

    def on_log(self, *_, **__):
        raise TimeoutError("the server does not answer")


class Notes(list):
    def note(self, label, text):
        self.append((label, text))


@pytest.fixture
def failing():
    def make(*, starts):
        notes = Notes()
        made = Trackers((), notes)
        made.trackers = {"wandb": Failing(starts=starts)}
        return made, notes

    return make


def test_a_tracker_that_cannot_start_is_a_fault(failing, fault_of):
    made, _ = failing(starts=False)
    assert fault_of(made.on_train_begin, None, None, None) == (
        "error SG465: wandb cannot start: no server at https://example.invalid\n  hint: set WANDB_API_KEY, or WANDB_MODE=offline"
    )


def test_a_tracker_that_fails_later_is_told_once_and_left(failing):
    made, notes = failing(starts=True)
    made.on_train_begin(None, None, None)
    made.on_log(None, None, None, logs={})
    made.on_log(None, None, None, logs={})
    assert notes == [("train", "wandb fails, and gets no more figures: the server does not answer")]


def test_training_that_goes_on_is_the_same_run_to_a_tracker_and_the_environment_comes_first(tmp_path, monkeypatch):
    for variable in ("WANDB_DIR", "WANDB_RUN_ID", "WANDB_RESUME", "WANDB_SILENT", "WANDB_PROJECT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("WANDB_PROJECT", "ours")

    def run_id(*, resumed):
        monkeypatch.delenv("WANDB_RUN_ID", raising=False)
        trackers.prepare(["wandb"], tmp_path, tmp_path, resumed=resumed)
        return os.environ["WANDB_RUN_ID"]

    first = run_id(resumed=False)
    assert run_id(resumed=True) == first
    assert run_id(resumed=False) != first
    assert (os.environ["WANDB_PROJECT"], os.environ["WANDB_DIR"]) == ("ours", str(tmp_path / "logs/wandb"))
