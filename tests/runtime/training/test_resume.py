"""Runs that go on with something changed: what a change does to the steps that are left, and what it leaves alone."""

from __future__ import annotations

import json
import math
import shutil

import pytest
import torch

from runtime import config as configs
from runtime.models.adapter import read_adapter
from runtime.run import pipeline
from runtime.stages import read_stage
from tests.runtime.runs import metrics
from tests.runtime.unfinished import unfinished

MESSAGES = [{"user": "Count {{ n }}."}, {"assistant": "It is {{ n }}."}]
DATA = {"sources": [{"synthetic": {"variables": {"n": list(range(100, 108))}, "messages": MESSAGES}}]}
TRAIN = {"epochs": 2, "batch_size": 2, "micro_batch_size": 2, "save_steps": 2, "save_total_limit": 9, "learning_rate": 1.0e-2}


@pytest.fixture(scope="module")
def spec(compiled):
    """Compiles 8 rows in 8 steps, with settings laid over the training."""
    return lambda folder, **train: compiled(folder, data=DATA, train=TRAIN | train)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, spec, carried_out):
    folder = tmp_path_factory.mktemp("unbroken")
    return carried_out(spec(folder), folder / "runs", "data", "train")


@pytest.fixture
def gone_on(tmp_path, unbroken, spec):
    """The run, killed after step 4, goes on with other settings."""

    def go_on(change="accept", **train):
        run = unfinished(unbroken, tmp_path / "runs", 4)
        build = spec(tmp_path, **train)
        options = {"build": build, "runs_dir": tmp_path / "runs", "only": ("data", "train"), "talk": ""}
        assert pipeline.run(configs.load(build), **options, change=change) == 0
        return run / "train"

    return go_on


def rates(train):
    return [step["learning_rate"] for step in metrics(train.parent)]


def cosine(peak, total, steps):
    """transformers' cosine without warm-up: the rate used at each step."""
    return [peak * 0.5 * (1 + math.cos(math.pi * (step - 1) / total)) for step in steps]


def losses(train):
    return [step["loss"] for step in metrics(train.parent)]


def test_complaint_18_more_epochs_go_on_from_the_step_and_along_the_longer_schedule(gone_on, unbroken):
    """The steps so far stay, no step is skipped or done twice, and the loss does not jump (peers.md, complaint 18)."""
    train = gone_on(epochs=3)
    assert [step["step"] for step in metrics(train.parent)] == list(range(1, 13))
    assert rates(train)[:4] == rates(unbroken / "train")[:4]
    assert rates(train)[4:] == pytest.approx(cosine(1.0e-2, 12, range(5, 13)), rel=1e-9)
    assert losses(train)[:5] == pytest.approx(losses(unbroken / "train")[:5], abs=1e-6)
    assert max(losses(train)[4:]) < losses(train)[0]
    assert json.loads((train / "checkpoint-12" / "trainer_state.json").read_text())["epoch"] == 3.0


def test_complaint_18_new_data_are_refused(gone_on, tmp_path, unbroken, compiled, fault_of):
    more = {"sources": [{"synthetic": {"variables": {"n": list(range(100, 110))}, "messages": MESSAGES}}]}
    unfinished(unbroken, tmp_path / "runs", 4)
    build = compiled(tmp_path, data=more, train=TRAIN)
    options = {"build": build, "runs_dir": tmp_path / "runs", "only": (), "talk": "", "change": "accept"}
    text = fault_of(pipeline.run, configs.load(build), **options)
    assert text.startswith("error SG446: the unfinished run in ")
    assert "  data.sources[0].synthetic.variables.n: [100, 101, " in text
    assert "(not possible: the rows and their order are others: some would be trained twice, some never)" in text


def test_another_learning_rate_holds_from_the_next_step(gone_on, unbroken):
    train = gone_on(learning_rate=5.0e-3)
    assert rates(train) == pytest.approx(rates(unbroken / "train")[:4] + cosine(5.0e-3, 8, range(5, 9)), rel=1e-9)
    saved = torch.load(train / "checkpoint-8" / "optimizer.pt", weights_only=True)["param_groups"]
    assert {group["initial_lr"] for group in saved} == {5.0e-3}
    contract = json.loads((train / "checkpoint-8" / "contract.json").read_text())
    assert contract["train.learning_rate"] == 5.0e-3


def test_another_decay_and_beta_hold_from_the_next_step_and_moments_stay(gone_on, unbroken):
    train = gone_on(weight_decay=0.1, adam_beta1=0.8)
    groups = torch.load(train / "checkpoint-8" / "optimizer.pt", weights_only=True)["param_groups"]
    assert {tuple(group["betas"]) for group in groups} == {(0.8, 0.999)}
    assert 0.1 in {group["weight_decay"] for group in groups}
    assert rates(train) == rates(unbroken / "train")
    assert losses(train)[4] == pytest.approx(losses(unbroken / "train")[4], abs=1e-6)


def test_a_rate_that_is_state_stays_where_another_setting_changes(tmp_path, compiled, carried_out):
    data = {**DATA, "validation": {"fraction": 0.5}}
    train = {**TRAIN, "epochs": 4, "schedule": "reduce_lr_on_plateau", "eval_steps": 1}
    whole = carried_out(compiled(tmp_path / "one", data=data, train=train), tmp_path / "one", "data", "train")
    again = unfinished(whole, tmp_path / "two", 4)
    build = compiled(tmp_path / "two", data=data, train={**train, "max_grad_norm": 0.5, "weight_decay": 0.1})
    options = {"build": build, "runs_dir": tmp_path / "two", "only": ("data", "train"), "talk": "", "change": "accept"}
    assert pipeline.run(configs.load(build), **options) == 0
    assert rates(again / "train")[4] == rates(whole / "train")[4]
    groups = torch.load(again / "train" / "checkpoint-8" / "optimizer.pt", weights_only=True)["param_groups"]
    assert 0.1 in {group["weight_decay"] for group in groups}


def test_other_micro_batches_are_the_same_steps(gone_on, unbroken):
    train = gone_on(micro_batch_size=1)
    assert losses(train) == pytest.approx(losses(unbroken / "train"), abs=1e-5)
    first, second = read_adapter(unbroken / "train" / "final"), read_adapter(train / "final")
    assert max(float((first[name] - second[name]).abs().max()) for name in first) < 1e-5


def test_what_keeps_checkpoints_needs_no_word_and_changes_no_byte(gone_on, unbroken):
    train = gone_on(change="refuse", save_steps=3, save_total_limit=4)
    assert sorted(path.name for path in train.glob("checkpoint-*")) == [f"checkpoint-{step}" for step in (2, 4, 6, 8)]
    file = "final/adapter_model.safetensors"
    assert (train / file).read_bytes() == (unbroken / "train" / file).read_bytes()


@pytest.fixture(scope="module")
def validated(tmp_path_factory, compiled, carried_out):
    """A run that learns its two training rows by heart: the rows held out get worse and worse. An evaluation at every step."""
    folder = tmp_path_factory.mktemp("validated")
    data = {**DATA, "validation": {"fraction": 0.7}}
    train = {
        **TRAIN,
        "epochs": 30,
        "learning_rate": 10.0,
        "schedule": "constant",
        "eval_steps": 1,
        "save_steps": 100,
        "save_total_limit": 1,
    }
    build = compiled(folder, data=data, train={**train, "load_best_model_at_end": True}, adapter={"lora": {"dropout": 0.1}})
    return build, carried_out(build, folder / "runs", "data", "train")


def best_of(run):
    points = [json.loads(line) for line in (run / "train" / "validation.jsonl").read_text().splitlines()]
    return min(points, key=lambda point: point["loss"])["step"]


def test_complaint_19_the_result_is_the_checkpoint_of_the_lowest_validation_loss(validated):
    """It is taken from the files, and the checkpoint is a whole one: there is nothing to load that was not saved (peers.md,
    complaint 19)."""
    _, run = validated
    best, last = best_of(run), read_stage(run, "train")["summary"]["steps"]
    assert best < last
    assert sorted(path.name for path in (run / "train").glob("checkpoint-*")) == sorted({f"checkpoint-{best}", f"checkpoint-{last}"})
    name = "adapter_model.safetensors"
    result = (run / "train" / "final" / name).read_bytes()
    assert result == (run / "train" / f"checkpoint-{best}" / name).read_bytes()
    assert result != (run / "train" / f"checkpoint-{last}" / name).read_bytes()
    assert (run / "train" / f"checkpoint-{best}" / "optimizer.pt").exists()
    assert not (run / "train" / "final" / "trainer_state.json").exists()


def test_a_killed_run_ends_with_the_same_best(validated, tmp_path, carried_out):
    build, run = validated
    best = best_of(run)
    again = unfinished(run, tmp_path, best)
    carried_out(build, tmp_path, "data", "train")
    for file in ("final/adapter_model.safetensors", "validation.jsonl"):
        assert (again / "train" / file).read_bytes() == (run / "train" / file).read_bytes()


def test_a_best_one_that_is_gone_is_no_reason_to_take_another(validated, tmp_path, fault_of, capsys):
    build, run = validated
    best, last = best_of(run), read_stage(run, "train")["summary"]["steps"]
    again = unfinished(run, tmp_path, last)
    shutil.rmtree(again / "train.partial" / f"checkpoint-{best}")
    options = {"build": build, "runs_dir": tmp_path, "only": ("train",), "talk": ""}
    assert fault_of(pipeline.run, configs.load(build), **options) == (
        f"error SG449: the result is to be checkpoint-{best}, which had the lowest validation loss; it is not there\n"
        "  hint: bring it back; or write train.load_best_model_at_end: false, and the last weights are the result"
    )
