"""Full fine-tuning under DeepSpeed: two processes, ZeRO 2 and 3, consolidated weights; and DeepSpeed's own settings."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from runtime.conversion import xtuner
from runtime.stages import read_stage

pytestmark = pytest.mark.e2e


def weights(folder):
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module", params=[2, 3])
def zero(request, tmp_path_factory, compiled, carried_out):
    folder = tmp_path_factory.mktemp("zero")
    distributed = {"processes_per_node": 2, "zero_stage": request.param, "deepspeed": {"zero_optimization": {"reduce_bucket_size": 12345}}}
    train = {"max_steps": 3, "batch_size": 4, "micro_batch_size": 2, "learning_rate": 1.0e-3, "save_steps": 2}
    build = compiled(folder, model={"dtype": "bfloat16"}, adapter=None, distributed=distributed, train=train)
    return build, carried_out(build, folder / "runs")


def test_full_fine_tuning_ends_with_whole_weights(zero, tiny_base):
    _, run = zero
    trained, base = weights(run / "train" / "final"), weights(tiny_base)
    assert {name: tensor.shape for name, tensor in trained.items()} == {name: tensor.shape for name, tensor in base.items()}
    assert not any(torch.equal(tensor.float(), base[name].bfloat16().float()) for name, tensor in trained.items() if "norm" not in name)
    figures = read_stage(run, "merge")["summary"]
    assert figures["distance"] <= figures["limit"]
    assert read_stage(run, "smoke")["summary"]["passed"]


def test_deepspeed_gets_its_own_settings(zero):
    _, run = zero
    state = next((run / "train").glob("checkpoint-3/global_step3/*model_states.pt"))
    settings = torch.load(state, weights_only=False)["ds_config"]
    assert settings["zero_optimization"]["reduce_bucket_size"] == 12345


def test_deepspeeds_parts_are_gathered_as_deepspeed_gathers_them(zero):
    """As XTuner's folders have them: read without running a pickle, and equal to DeepSpeed's own script."""
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    folder = zero[1] / "train/checkpoint-3"
    wanted = get_fp32_state_dict_from_zero_checkpoint(str(folder), "global_step3")
    found = xtuner.read(folder / "global_step3").tensors
    assert all(torch.equal(tensor.float(), found[name].float()) for name, tensor in wanted.items())
    assert found.keys() >= wanted.keys()
