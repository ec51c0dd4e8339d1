"""specgen/schedule.py against the steps that transformers' Trainer 5.23 takes (case o17), and warm-ups (case o18)."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

CASES = Path(__file__).parents[1] / "cases"
EXPECTED = {entry["id"]: entry["expected"] for entry in yaml.safe_load((CASES / "cases.yaml").read_text(encoding="utf-8"))["cases"]}
O17 = list(zip(yaml.safe_load((CASES / "o17.yaml").read_text())["cases"], EXPECTED["o17"]["steps"], strict=True))


def rows(number):
    return f"data.sources=[{{synthetic: {{repeat: {number}, messages: [{{user: Hi}}, {{assistant: Hello.}}]}}}}]"


@pytest.mark.parametrize(("given", "expected"), O17, ids=lambda part: f"{part['rows']}_rows")
def test_the_plan_counts_the_steps_that_are_taken(compiled_with, given, expected):
    length = f"train.max_steps={given['max_steps']}" if "max_steps" in given else f"train.epochs={given['epochs']}"
    batch = (f"train.batch_size={given['batch'] * given['accum']}", f"train.micro_batch_size={given['batch']}")
    plan = compiled_with(rows(given["rows"]), length, *batch).plan.train
    assert plan.total_steps == expected["total_updates"]
    assert plan.gradient_accumulation_steps == given["accum"]
    if "updates_per_epoch" in expected:
        assert plan.steps_per_epoch == expected["updates_per_epoch"]


@pytest.mark.parametrize(
    ("total_rows", "processes", "micro", "batch", "steps"),
    [(10, 2, 1, 2, 5), (9, 2, 2, 8, 2), (1, 4, 1, 4, 1), (17, 2, 2, 8, 3)],
)
def test_rows_are_shared_out_among_processes(compiled_with, total_rows, processes, micro, batch, steps):
    settings = (f"distributed.processes_per_node={processes}", f"train.batch_size={batch}", f"train.micro_batch_size={micro}")
    assert compiled_with(rows(total_rows), *settings).plan.train.steps_per_epoch == steps


def test_without_a_micro_batch_size_the_batch_is_shared_out_at_once(compiled_with):
    plan = compiled_with("distributed.processes_per_node=4", "distributed.nodes=2", "train.batch_size=16").plan
    assert (plan.train.micro_batch_size, plan.train.gradient_accumulation_steps, plan.distributed.world_size) == (2, 1, 8)


def test_half_an_epoch_is_rounded_up(compiled_with):
    plan = compiled_with(rows(9), "train.batch_size=2", "train.epochs=0.5").plan.train
    assert (plan.steps_per_epoch, plan.total_steps) == (5, 3)


@pytest.mark.parametrize(("ratio", "steps"), [("0", 0), ("0.03", 1), ("0.1", 1), ("0.11", 2), ("0.5", 5), ("0.99", 9)])
def test_a_warmup_share_is_rounded_up_and_leaves_a_step_at_the_full_rate(compiled_with, ratio, steps):
    plan = compiled_with(rows(10), "train.batch_size=1", "train.epochs=1", f"train.warmup_ratio={ratio}").plan.train
    assert (plan.total_steps, plan.warmup_steps) == (10, steps)


@pytest.mark.parametrize(("warmup", "reached"), [(50, EXPECTED["o18"]["highest_rate_used"]), (10, 0.0009)])
def test_a_warmup_as_long_as_training_is_an_error_that_names_the_rate_reached(faults_of, warmup, reached):
    settings = (rows(10), "train.batch_size=1", "train.epochs=1", "train.learning_rate=0.001", f"train.warmup_steps={warmup}")
    assert faults_of(*settings) == [
        f"SG253: the warm-up takes {warmup} steps and training only 10: the rate would end at {reached}, below learning_rate"
    ]


def test_a_warmup_that_ends_with_the_last_step_but_one_is_fine(compiled_with):
    assert compiled_with(rows(10), "train.batch_size=1", "train.epochs=1", "train.warmup_steps=9").plan.train.warmup_steps == 9


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.warmup_steps=-1", "SG105: train.warmup_steps is -1; it has to be at least 0"),
        ("train.warmup_ratio=1.5", "SG105: train.warmup_ratio is 1.5; it has to be at most 1"),
        ("train.learning_rate=0", "SG105: train.learning_rate is 0; it has to be greater than 0"),
    ],
)
def test_impossible_rates_and_warmups_name_the_field(faults_of, setting, message):
    assert faults_of(setting) == [message]


def test_a_preview_beyond_the_end_is_a_warning(compiled_with):
    (warning,) = compiled_with(rows(10), "train.preview={every: 50, prompts: [Hi]}").diagnostics
    assert (warning.code, warning.severity) == ("SG254", "warning")
