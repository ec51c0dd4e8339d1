"""runtime/training/early_stopping.py: training ends where the validation loss no longer falls, and also after an interruption."""

from __future__ import annotations

import json

import pytest

from runtime import config as configs
from runtime.config import EarlyStoppingConfig
from runtime.stages import read_stage
from runtime.training.early_stopping import is_over, without_gain
from runtime.training.metrics import Validation

VALIDATION = {"validation": {"fraction": 0.25}}


def points(*losses):
    return [Validation(step=step, loss=loss) for step, loss in enumerate(losses, start=1)]


@pytest.mark.parametrize(
    ("losses", "threshold", "waited"),
    [
        ([], 0.0, 0),
        ([3.0], 0.0, 0),
        ([3.0, 2.0, 1.0], 0.0, 0),
        ([3.0, 2.0, 2.0, 2.5], 0.0, 2),
        ([3.0, 2.95, 2.92, 2.85], 0.1, 0),  # together they fall by more than the threshold
        ([3.0, 2.95, 2.92, 2.91], 0.1, 3),
        ([3.0, float("nan"), 2.0], 0.0, 0),
    ],
)
def test_evaluations_without_a_better_loss_are_counted(losses, threshold, waited):
    assert without_gain(points(*losses), threshold) == waited


def test_patience_is_how_many_may_bring_nothing():
    assert not is_over(EarlyStoppingConfig(patience=3, threshold=0.0), points(1.0, 2.0, 2.0))
    assert is_over(EarlyStoppingConfig(patience=3, threshold=0.0), points(1.0, 2.0, 2.0, 2.0))


@pytest.fixture(scope="module")
def stopping(tmp_path_factory, compiled):
    """A spec whose loss falls by less than the threshold at once: it has two validations of patience."""
    train = {"epochs": 8, "learning_rate": 1.0e-5, "save_steps": 3, "early_stopping": {"patience": 2, "threshold": 0.5}}
    preview = {"every": 100, "prompts": ["Count 2."], "max_new_tokens": 2}
    return compiled(tmp_path_factory.mktemp("early"), data=VALIDATION, train={**train, "preview": preview})


def test_the_run_ends_early_with_a_line_and_the_last_answers(stopping, carried_out, tmp_path, capsys):
    run = carried_out(stopping, tmp_path, "data", "train")
    said = capsys.readouterr().out
    steps = configs.load(stopping).train.steps_per_epoch
    assert f"train    stops early at step {3 * steps} of {8 * steps}: 2 validations without a better loss; the best was" in said
    summary = read_stage(run, "train")["summary"]
    assert (summary["steps"], summary["total_steps"]) == (3 * steps, 8 * steps)
    previews = [json.loads(line) for line in (run / "train/previews.jsonl").read_text().splitlines()]
    assert [preview["step"] for preview in previews] == [0, 3 * steps]


def test_a_run_that_was_interrupted_keeps_the_count(stopping, carried_out, tmp_path, monkeypatch):
    from runtime.training.watch import Watch

    whole = carried_out(stopping, tmp_path / "whole", "data", "train")
    steps = configs.load(stopping).train.steps_per_epoch
    on_metric = Watch.on_metric

    def break_off(self, metric, total):
        on_metric(self, metric, total)
        if metric.step == 2 * steps + 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Watch, "on_metric", break_off)
        carried_out(stopping, tmp_path / "broken", "data", "train")
    broken = carried_out(stopping, tmp_path / "broken", "data", "train")
    summaries = [read_stage(run, "train")["summary"] for run in (whole, broken)]
    assert summaries[0]["steps"] == summaries[1]["steps"] == 3 * steps
    assert summaries[0]["validation_loss"] == summaries[1]["validation_loss"]
