"""runtime/training/guard.py on a tiny random model: losses that are no numbers, and losses that jump. The references are the
metrics themselves and the checkpoints' weights."""

from __future__ import annotations

import statistics
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from runtime.processes.together import Together
from runtime.training.guard import Guard, all_finite
from tests.runtime.runs import metrics

JUMPY = {"learning_rate": 0.1, "schedule": "constant", "max_steps": 16, "batch_size": 1, "save_steps": 1, "save_total_limit": 50}


@pytest.fixture(scope="module")
def broken_base(tmp_path_factory, saved_llama, tokenizer):
    """A model whose embedding of the word '4' is no number: a batch with it has no loss."""
    folder = saved_llama(tmp_path_factory.mktemp("broken"), hidden_size=32)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    (four,) = tokenizer("4")["input_ids"]
    model.model.embed_tokens.weight.data[four] = float("nan")
    model.save_pretrained(folder)
    return folder


def test_a_loss_that_is_no_number_names_step_and_rows_and_nothing_of_it_is_saved(tmp_path, compiled, carried_out, fault_of, broken_base):
    train = {"max_steps": 8, "batch_size": 1, "save_steps": 1, "save_total_limit": 50}
    build = compiled(tmp_path, model={"base": str(broken_base)}, train=train)
    text = fault_of(carried_out, build, tmp_path, "data", "train")
    partial = tmp_path / "tiny" / "train.partial"
    steps = len((partial / "metrics.jsonl").read_text().splitlines())
    assert f"error SG433: the loss is nan at step {steps + 1}; its batch [1, 41] has the rows '" in text
    assert "lower train.learning_rate" in text
    assert sorted(path.name for path in partial.glob("checkpoint-*")) == sorted(f"checkpoint-{step + 1}" for step in range(steps))


@pytest.fixture(scope="module")
def skipped(tmp_path_factory, compiled, carried_out):
    """A run that leaves out each step whose loss is above the median of the last two."""
    folder = tmp_path_factory.mktemp("skipped")
    build = compiled(folder, train={**JUMPY, "loss_spike": {"factor": 1.001, "window": 2, "action": "skip"}})
    return carried_out(build, folder, "data", "train")


def test_a_spike_is_a_loss_above_the_median_of_the_last_steps_and_is_in_the_metrics(skipped):
    losses = [step["loss"] for step in metrics(skipped)]
    wanted = [statistics.median(losses[at - 2 : at]) if at >= 2 else float("inf") for at in range(len(losses))]
    spikes = [loss > 1.001 * median for loss, median in zip(losses, wanted, strict=True)]
    assert [step["loss_spike"] is not None for step in metrics(skipped)] == spikes
    assert any(spikes)
    assert len(losses) == 16  # a step that is left out counts


def test_a_step_that_is_left_out_changes_no_weight_and_others_do(skipped):
    folders = [skipped / "train" / f"checkpoint-{step}" for step in range(1, 17)]
    weights = [load_file(folder / "adapter_model.safetensors") for folder in folders]
    same = [all(torch.equal(one[name], other[name]) for name in one) for one, other in pairwise(weights)]
    assert same == [step["loss_spike"] is not None for step in metrics(skipped)[1:]]


def test_a_spike_that_stops_training_says_so_and_the_step_is_not_taken(tmp_path, compiled, carried_out, fault_of):
    build = compiled(tmp_path, train={**JUMPY, "loss_spike": {"factor": 1.001, "window": 2, "action": "stop"}})
    text = fault_of(carried_out, build, tmp_path, "data", "train")
    steps = len((tmp_path / "tiny" / "train.partial" / "metrics.jsonl").read_text().splitlines())
    assert f"error SG454: step {steps + 1}: loss " in text
    assert "times the median of the last 2 steps; its batch [1, " in text


def guard_of(*parts, norm=1.0, model=None):
    """A guard after a backward pass with these losses."""
    trainer = SimpleNamespace(parts=[(torch.tensor(loss), list(torch.zeros(1, 2, dtype=torch.int64))) for loss in parts], norm=norm)
    tokenizer = SimpleNamespace(decode=lambda _ids: "text")
    guard = Guard(trainer, Together(1), tokenizer, spike=None, losses=[], tell=print)
    return guard, SimpleNamespace(fp16=False), SimpleNamespace(global_step=6), SimpleNamespace(should_save=True)


def test_a_norm_of_the_gradients_that_is_not_finite_is_told(fault_of):
    guard, *rest = guard_of(1.0, norm=float("inf"))
    assert fault_of(guard.on_pre_optimizer_step, *rest).startswith("error SG457: the norm of the gradients is inf at step 7\n")


def test_a_float16_step_that_overflows_is_left_to_the_gradient_scaler():
    guard, _, *rest = guard_of(1.0, norm=float("inf"))
    guard.on_pre_optimizer_step(SimpleNamespace(fp16=True), *rest)


def test_weights_that_are_not_finite_are_never_saved(fault_of):
    model = torch.nn.Linear(2, 2)
    guard, *rest = guard_of(1.0)
    guard.on_step_end(*rest, model=model)
    model.weight.data[0, 0] = float("nan")
    assert not all_finite(model)
    text = "error SG457: a weight is not finite after step 6; no checkpoint is written of it\n"
    assert fault_of(guard.on_step_end, *rest, model=model).startswith(text)
