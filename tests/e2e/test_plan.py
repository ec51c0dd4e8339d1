"""specgen plan: the data stage runs in a process of its own and tells what only the tokenizer can."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


def plan(process, root, cache, *arguments):
    return process("plan", "specs/assistant.yaml", *arguments, cwd=root, SPECGEN_CACHE=cache)


def test_the_plan_has_the_tokens_of_the_rows(process, root, cache):
    ran = plan(process, root, cache)
    assert (ran.code, ran.err) == (0, "")
    # counted with transformers' own tokenizer and template over the 80 rows of the default spec
    assert "| tokens in an epoch | 3,815, 24.1 % trained |" in ran.out
    assert "| length of a row | median 48, 90 % within 50, 99 % within 50, longest 50 |" in ran.out
    assert "| repeated rows | 87.5 % |" in ran.out
    assert "| tokens over the whole training | about 11,445 |" in ran.out
    assert "| arithmetic | about 6.16 TFLOP, padding not counted |" in ran.out  # 4 x 134,515,008 parameters x 11,445 tokens


def test_the_plan_as_json_has_settings_and_figures(process, root, cache):
    plan_of = json.loads(plan(process, root, cache, "--format", "json").out)
    assert plan_of["plan"]["train"]["total_steps"] == 30
    assert (plan_of["data"]["tokens"], plan_of["data"]["examples"]) == (3815, 80)
    assert (plan_of["parameters"], plan_of["total_tokens"]) == (134_515_008, 11_445)


def test_rows_that_do_not_fit_are_told_as_the_run_would(process, root, cache):
    ran = plan(process, root, cache, "--set", "data.max_length=20")
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith("error SG424: 10 distinct rows are longer than 20 tokens\n  48 tokens: user: Who are you? / assistant: ")
    assert "  hint: write data.max_length: 50, or overlong: drop, truncate or split\n" in ran.err


def test_steps_that_depend_on_dropped_rows_are_known(process, root, cache):
    settings = ("--set", "data.max_length=48", "--set", "data.overlong=drop", "--set", "data.limits.dropped=0.5")
    ran = plan(process, root, cache, *settings)
    assert ran.code == 0
    assert "| dropped, truncated | 30, 0 rows |" in ran.out
    assert "| examples, after dropping | 50 |" in ran.out
    assert "| optimizer steps | 21 (3.0 epochs x 7), 2 of them warm-up |" in ran.out


def test_memory_is_counted_on_a_step_where_that_is_asked_for(process, root, cache):
    ran = plan(process, root, cache, "--measure", "--format", "json")
    assert ran.code == 0
    memory = json.loads(ran.out)["memory"]
    assert memory["measured"] is True
    assert memory["weights"] == pytest.approx(134_515_008 * 4, rel=0.01)  # float32
    assert memory["together"] == sum(
        memory[part] for part in ("weights", "adapter", "gradients", "optimizer", "activations", "logits", "buffers")
    )
    told = plan(process, root, cache, "--measure", "--set", "hardware.device_memory=500MiB")
    assert told.code == 2
    assert "SG281: training needs " in told.err


def test_what_a_hub_out_of_reach_would_tell_stays_unknown(process, root, cache):
    spec = "specs/smollm2_135m_instruct_full_alpaca_e3.yaml"
    ran = process("plan", spec, cwd=root, SPECGEN_CACHE=cache, HF_HUB_OFFLINE="1")
    assert ran.code == 0
    assert "warning SG417: " in ran.err
    assert "| rows | unknown |" in ran.out
