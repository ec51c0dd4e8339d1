"""The compiled folder: what its files hold."""

import json

import pytest
import yaml

from specgen.quoting import quoted


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_deepspeed_settings_are_concrete_numbers(compiled_with, stage):
    compiled = compiled_with(f"distributed.zero_stage={stage}", "distributed.processes_per_node=2", "train.batch_size=16")
    settings = json.loads(compiled.files["deepspeed.json"])
    assert settings["zero_optimization"]["stage"] == stage
    assert (settings["train_batch_size"], settings["train_micro_batch_size_per_gpu"], settings["gradient_accumulation_steps"]) == (16, 8, 1)
    texts = [text for text in compiled.files["deepspeed.json"].split('"') if text.strip().replace(".", "").isdigit()]
    assert "auto" not in compiled.files["deepspeed.json"]
    assert texts == []


@pytest.mark.parametrize(
    ("offload", "expected"), [("optimizer", {"offload_optimizer"}), ("all", {"offload_optimizer", "offload_param"}), ("none", set())]
)
def test_offload_is_what_xtuner_calls_it(compiled_with, offload, expected):
    compiled = compiled_with("distributed.zero_stage=3", "distributed.processes_per_node=2", f"distributed.offload={offload}")
    settings = json.loads(compiled.files["deepspeed.json"])["zero_optimization"]
    assert {key for key in settings if key.startswith("offload")} == expected


AWKWARD = [
    "a: b # c",
    "{{ x }}",
    "'\"\\",
    "line\nline\n",
    " lead",
    "\u2028\u0085\ufeff",
    "yes",
    "1e-4",
    "- x",
    "é🙂",
    "|\n",
    "```",
    "*&!%@",
]


@pytest.mark.parametrize("text", AWKWARD)
def test_no_text_changes_the_meaning_of_the_file(compiled_with, text):
    compiled = compiled_with(
        f"description={quoted(text)}",
        f"chat.system={quoted(text)}",
        f"chat.stop=[{quoted(text)}]",
    )
    config = yaml.safe_load(compiled.files["config.yaml"])
    assert (config["description"], config["chat"]["system"], config["chat"]["stop"]) == (text, text, [text])


def test_the_plan_shows_a_row_with_what_is_trained(compiled_with):
    plan = compiled_with().files["plan.md"]
    assert "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n[[Hello.<|im_end|>]]" in plan


def test_the_plan_counts_what_the_adapter_trains(compiled_with):
    # 460,800: case o19, measured with peft on this model
    plan = compiled_with("adapter.lora={r: 8, targets: [q_proj, v_proj]}").files["plan.md"]
    assert "| adapted modules | 60 |" in plan
    assert "| trainable parameters | 460,800 of" in plan
