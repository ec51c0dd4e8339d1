"""The compiled folder is the only thing that the two packages share; here their views of it are compared."""

import jsonschema
import pytest
import yaml

from docsite.plan_schema import json_schema, schema_of
from runtime import config as runtime_config
from runtime import stages
from runtime.run import pipeline
from specgen import folder, plan
from specgen.diff.stages import run_again
from specgen.stages import NEEDS, TESTS


def test_both_packages_have_the_same_view_of_a_config():
    assert schema_of(runtime_config.Config) == schema_of(plan.Plan)


@pytest.mark.parametrize("name", ["assistant", "assistant-zero2", "assistant-zero3"])
def test_a_compiled_config_satisfies_the_schema_and_loads(root, name):
    golden = root / "tests/golden" / name
    jsonschema.validate(yaml.safe_load((golden / "config.yaml").read_text()), json_schema())
    assert runtime_config.load(golden).name == name


STAGE_CHANGES = [
    "description=Other.",
    "model.dtype=float32",
    "template=chatml",
    "data.max_length=256",
    "data.system=Be kind.",
    "data.train_on=all",
    "data.on_bad_row=drop",
    "data.near_duplicates={threshold: 0.9}",
    "train.group_by_length=true",
    "adapter.lora.r=4",
    "train.learning_rate=1e-4",
    "train.seed=1",
    "train.save_steps=7",
    "train.preview={prompts: [Hi]}",
    "train.objective=text",
    "distributed={zero_stage: 2, processes_per_node: 2}",
    "distributed.ddp_timeout=7",
    "hardware.device_memory=80GiB",
    "export.adapter.dtype=float32",
    "export.merged.max_shard_size=1GB",
    "chat.max_new_tokens=7",
    "smoke=[{user: Hi, expect: {contains: [H]}}]",
    "eval.tasks=[{name: arc_easy}]",
]


@pytest.mark.parametrize("setting", STAGE_CHANGES)
def test_the_compiler_knows_which_stages_run_again(setting, compiled_with, tmp_path):
    before, after = compiled_with(), compiled_with(setting)
    assert run_again(before.plan, after.plan) == run_again_by_keys(before, after, tmp_path)


WATCHED = (
    "data.validation={rows: 1}",
    "data.sources=[{synthetic: {variables: {n: [a, b]}, messages: [{user: Hi}, {assistant: '{{ n }}'}]}}]",
)
WATCHED = (
    "data.validation={rows: 1}",
    "data.sources=[{synthetic: {variables: {n: [a, b]}, messages: [{user: Hi}, {assistant: '{{ n }}'}]}}]",
)
STAGE_PAIRS = [
    ((*WATCHED, "train.eval_steps=1"), "train.eval_steps=2", ["report"]),
    ((*WATCHED, "train.eval_steps=1", "train.load_best_model_at_end=true"), "train.eval_steps=2", None),
    (
        ("distributed={zero_stage: 3, offload: all, offload_device: nvme, nvme_path: /a}", "train.batch_size=8"),
        "distributed.nvme_path=/b",
        ["report"],
    ),
]


@pytest.mark.parametrize(("common", "setting", "expected"), STAGE_PAIRS)
def test_the_compiler_knows_which_settings_change_no_weights(common, setting, expected, compiled_with, tmp_path):
    before, after = compiled_with(*common), compiled_with(*common, setting)
    again = run_again(before.plan, after.plan)
    assert again == run_again_by_keys(before, after, tmp_path)
    assert again == (expected or ["train", "convert", "merge", "smoke", "report"])


def test_the_compiler_knows_the_stages_and_what_each_needs(tmp_path):
    assert {stage.name: stage.needs for stage in pipeline.stages(tmp_path)} == NEEDS
    assert set(TESTS) == set(pipeline.TESTS)


LLM = 'data.sources=[{llm: {model: writer, prompt: [{user: Ask.}], row: [{user: "{{ answer }}"}, {assistant: Yes.}], SETTING}}]'


@pytest.mark.parametrize(
    ("setting", "data"),
    [("concurrency: 9, budget: {requests: 5}, timeout_s: 9.0, api_key_env: PATH", False), ("samples: 2", True), ("retries: 2", True)],
)
def test_how_fast_and_by_whom_a_model_is_asked_changes_no_row(setting, data, compiled_with, tmp_path):
    before, after = (compiled_with(LLM.replace("SETTING", text)) for text in ("temperature: 0.8", setting))
    again = run_again(before.plan, after.plan)
    assert again == run_again_by_keys(before, after, tmp_path)
    assert (again == ["report"]) != data


def run_again_by_keys(before, after, tmp_path):
    """The stages whose keys differ, without those that nothing is asked of."""
    keys = []
    for name, compiled in (("before", before), ("after", after)):
        folder.write(compiled.files, tmp_path / name)
        config = runtime_config.load(tmp_path / name)
        keys.append(stages.keys(pipeline.stages(tmp_path), config))
    unasked = {stage.name for stage in pipeline.stages(tmp_path) if not stage.asked(config)}
    return [stage for stage in keys[1] if keys[0].get(stage) != keys[1][stage] and stage not in unasked]
