"""skip_modules and optimizers: what bitsandbytes is told. Case o21."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
import yaml
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from torch import nn

from runtime import config as configs
from runtime.config import Int8Quantization, Nf4Quantization
from runtime.models.model import load_model, quantization_settings
from runtime.stages import read_stage
from runtime.training import trained_on
from runtime.training.arguments import training_arguments
from runtime.training.contract import contract_of
from runtime.training.trainable import prepared


@pytest.fixture(scope="module")
def untied(tmp_path_factory, saved_llama):
    return saved_llama(tmp_path_factory.mktemp("base"), hidden_size=64)  # nf4 counts in blocks of 64


@pytest.mark.parametrize(
    ("quantization", "kind"), [({"nf4": {"skip_modules": ["q_proj"]}}, Linear4bit), ({"int8": {"skip_modules": ["q_proj"]}}, Linear8bitLt)]
)
def test_case_o21_named_modules_and_the_output_layer_keep_their_precision(tmp_path, compiled, untied, quantization, kind, case):
    build = compiled(tmp_path, model={"base": str(untied), "quantization": quantization})
    (settings,) = yaml.safe_load((build / "config.yaml").read_text())["model"]["quantization"].values()
    assert settings["skip_modules"] == case("o21")["compiled_skip_list_must_include"]
    model = load_model(configs.load(build).model, device=torch.device("cpu"))
    assert type(model.lm_head) is nn.Linear
    assert {type(module) for name, module in model.named_modules() if name.endswith("q_proj")} == {nn.Linear}
    assert isinstance(model.model.layers[0].mlp.up_proj, kind)


def test_without_a_list_of_ones_own_all_but_the_output_layer_is_quantized(tmp_path, configured, untied):
    model = load_model(configured(tmp_path, model={"base": str(untied), "quantization": {"nf4": {}}}).model, device=torch.device("cpu"))
    linear = [name for name, module in model.named_modules() if type(module) is nn.Linear]
    assert linear == ["lm_head"]


@pytest.mark.parametrize("quantization", [None, {"int8": {"skip_modules": ["q_proj"]}}, {"nf4": {"double_quant": False}}], ids=str)
def test_a_contract_tells_how_the_base_was_quantized(tmp_path, configured, untied, quantization):
    config = configured(tmp_path, model={"base": str(untied), "quantization": quantization})
    record = trained_on.of_contract(json.loads(json.dumps(contract_of(config, rows=None))))
    assert (record is None) == (quantization is None)
    if record is not None:
        assert (record.quantization, record.dtype, record.taken) == (quantization_settings(config.model).to_dict(), "float32", False)


def first_gradient(model):
    """The gradient that reaches the first layer's adapter."""
    ids = torch.arange(12).reshape(1, 12)
    model.train()(input_ids=ids, labels=ids).loss.backward()
    (found,) = [p.grad.clone() for name, p in model.named_parameters() if "layers.0.self_attn.q_proj.lora_B" in name]
    model.zero_grad()
    return found


@pytest.mark.parametrize("quantization", [{"nf4": {}}, {"int8": {}}])
def test_gradients_flow_through_quantized_layers_after_a_preview_as_before(tmp_path, configured, untied, quantization):
    config = configured(tmp_path, model={"base": str(untied), "dtype": "bfloat16", "quantization": quantization})
    model = prepared(config, load_model(config.model, device=torch.device("cpu")))
    before = first_gradient(model)
    assert before.abs().max() > 0
    with torch.no_grad():
        model.eval()(input_ids=torch.arange(5).reshape(1, 5))
    assert torch.equal(first_gradient(model), before)


@pytest.mark.parametrize(
    "quantization",
    [
        Nf4Quantization(double_quant=True, compute_dtype="float32", skip_modules=("qq_proj", "lm_head")),
        Int8Quantization(skip_modules=("qq_proj", "lm_head")),
    ],
)
def test_a_name_that_is_no_module_is_refused_by_the_run_too(tmp_path, configured, untied, fault_of, quantization):
    model = replace(configured(tmp_path, model={"base": str(untied)}).model, quantization=quantization)
    text = "error SG247: skip_modules names qq_proj, which matches 0 modules of the base model"
    assert fault_of(load_model, model, device=torch.device("cpu")) == text


@pytest.mark.parametrize("optimizer", ["adamw_torch", "adamw_torch_fused", "adamw_bnb_8bit", "paged_adamw_32bit", "adafactor", "sgd"])
def test_every_optimizer_trains_on_a_cpu(tmp_path, compiled, carried_out, optimizer):
    build = compiled(tmp_path, train={"optimizer": optimizer, "max_steps": 3})
    summary = read_stage(carried_out(build, tmp_path, "data", "train"), "train")["summary"]
    assert summary["steps"] == 3


def test_optimizer_and_betas_reach_the_trainer(tmp_path, compiled):
    build = compiled(tmp_path, train={"optimizer": "adamw_torch_fused", "adam_beta1": 0.8, "adam_beta2": 0.95})
    config = configs.load(build)
    arguments = training_arguments(config, tmp_path, build, validates=False)
    assert (arguments.optim, arguments.adam_beta1, arguments.adam_beta2) == ("adamw_torch_fused", 0.8, 0.95)


def test_an_optimizer_of_a_library_that_is_not_installed_is_named(tmp_path, compiled, monkeypatch, fault_of):
    build = compiled(tmp_path, train={"optimizer": "adamw_bnb_8bit"})
    config = configs.load(build)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert fault_of(training_arguments, config, tmp_path, build, validates=False) == (
        "error SG413: train.optimizer: adamw_bnb_8bit needs bitsandbytes, which is not installed\n  hint: pip install 'specgen[qlora]'"
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_asked_for_has_to_be_there(tmp_path, compiled, fault_of):
    build = compiled(tmp_path, hardware={"device": "cuda"})
    config = configs.load(build)
    assert fault_of(training_arguments, config, tmp_path, build, validates=False) == (
        "error SG415: hardware.device: cuda, but PyTorch sees no GPU\n  hint: write auto or cpu"
    )
