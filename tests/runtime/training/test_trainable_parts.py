"""What is trained of a model: modules by name, patterns of ranks, layers; and that the compiler counts the same."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from runtime.training import trainable as run
from runtime.training.initial import adapted_layers
from runtime.training.trainable import prepared
from specgen import modules as compiler
from specgen.compiler import compile_spec
from specgen.trainable import adapted_modules, rank_of, trainable_parameters

LORAS = [
    {},
    {"targets": ["q_proj", "v_proj"]},
    {"rank_pattern": {"down_proj": 2, r"layers\.1\..*q_proj": 6}, "alpha_pattern": {"q_proj": 1.0}},
    {"layers_to_transform": [1]},
    {"layers_to_transform": [0], "targets": ["o_proj", "model.layers.1.mlp.up_proj"]},
    {"exclude_modules": ["mlp.up_proj", "model.layers.0.self_attn.q_proj"]},
    {"exclude_modules": ["o_proj"], "modules_to_save": ["lm_head", "down_proj"], "use_dora": True},
]
NAMES = [["lm_head"], ["model.layers.1.*"], ["layers.0"], ["layers.[1-9].mlp.*", "model.norm"], ["q_proj", "embed_tokens"], ["*norm*"]]
FULL = {"adapter": None, "train": {"max_steps": 2, "batch_size": 2, "learning_rate": 1.0e-3}}


def with_names(names):
    return {**FULL, "train": {**FULL["train"], "trainable_modules": names}}


def of_compiler(folder):
    compiled = compile_spec(folder / "spec.yaml")
    return compiled.plan, compiled.facts.model


@pytest.mark.parametrize("lora", LORAS, ids=str)
def test_the_compiler_knows_which_modules_peft_adapts_and_with_which_rank(tmp_path, configured, tiny_model, lora):
    config = configured(tmp_path, adapter={"lora": lora})
    plan, facts = of_compiler(tmp_path)
    model = prepared(config, tiny_model)
    ranks = {name: layer.r["default"] for name, layer in adapted_layers(model)}
    assert ranks == {module: rank_of(plan.adapter, module) for module in adapted_modules(plan.adapter, facts)}
    assert trainable_parameters(plan, facts) == sum(tensor.numel() for tensor in model.parameters() if tensor.requires_grad)


def test_patterns_set_ranks_and_scaling(tmp_path, configured, tiny_model):
    lora = {"r": 4, "alpha": 8, "rank_pattern": {"down_proj": 2, r"layers\.1\..*q_proj": 6}, "alpha_pattern": {"q_proj": 3.0}}
    layers = dict(adapted_layers(prepared(configured(tmp_path, adapter={"lora": lora}), tiny_model)))
    found = {name.removeprefix("model.layers."): (layer.r["default"], layer.scaling["default"]) for name, layer in layers.items()}
    assert found["0.self_attn.k_proj"] == (4, 2.0)
    assert found["0.self_attn.q_proj"] == (4, 0.75)
    assert found["1.self_attn.q_proj"] == (6, 0.5)
    assert found["1.mlp.down_proj"] == (2, 4.0)


@pytest.mark.parametrize("names", NAMES, ids=str)
@pytest.mark.parametrize("tied", [False, True])
def test_the_compiler_counts_what_is_trained_of_a_whole_model(tmp_path, configured, saved_llama, names, tied):
    from transformers import AutoModelForCausalLM

    base = saved_llama(tmp_path / "base", hidden_size=32, tied=tied)
    config = configured(tmp_path, model={"base": str(base)}, **with_names(names))
    plan, facts = of_compiler(tmp_path)
    model = prepared(config, AutoModelForCausalLM.from_pretrained(base).requires_grad_(False))
    assert trainable_parameters(plan, facts) == sum(tensor.numel() for tensor in model.parameters() if tensor.requires_grad) > 0


@pytest.mark.parametrize("pattern", ["lm_head", "layers.2", "model.layers.2[0-9].*", "*.mlp", "q_proj", "model.layers.?"])
@pytest.mark.parametrize("name", ["lm_head.weight", "model.layers.2.mlp.up_proj.weight", "model.layers.21.self_attn.q_proj.weight"])
def test_both_choose_by_the_same_words(pattern, name):
    assert run.is_named(pattern, name) == compiler.is_named(pattern, name)


def test_wildcards_and_ends_of_names():
    assert run.is_named("model.layers.2[0-9].*", "model.layers.21.mlp.up_proj.weight")
    assert not run.is_named("model.layers.2[0-9].*", "model.layers.2.mlp.up_proj.weight")
    assert run.is_named("layers.2", "model.layers.2.mlp.up_proj.weight")
    assert not run.is_named("layers.2", "model.layers.21.mlp.up_proj.weight")


@pytest.mark.parametrize("checkpointing", [False, True])
def test_frozen_parts_stay_byte_by_byte_and_the_rest_moves(tmp_path, compiled, carried_out, tiny_base, checkpointing):
    names = ["model.layers.1.*", "lm_head"]
    train = {**with_names(names)["train"], "gradient_checkpointing": checkpointing}
    build = compiled(tmp_path, adapter=None, train=train)
    folder = carried_out(build, tmp_path / "runs", "data", "train", "convert", "merge")
    base = load_file(tiny_base / "model.safetensors")
    for stage in ("train/final", "merge"):
        trained = load_file(folder / stage / "model.safetensors")
        moved = {name for name, tensor in trained.items() if not torch.equal(tensor, base[name])}
        assert moved == {name for name in base if name.startswith(("model.layers.1.", "lm_head"))}


def test_a_name_that_chooses_nothing_is_refused_by_the_run_too(tmp_path, configured, tiny_model, fault_of):
    from dataclasses import replace

    config = configured(tmp_path, **FULL)
    config = replace(config, train=replace(config.train, trainable_modules=("lm_haed",)))
    assert fault_of(prepared, config, tiny_model) == (
        "error SG607: trainable_modules names lm_haed, which matches 0 modules of the base model"
    )


def test_an_excluded_module_that_is_none_is_refused_by_the_run_too(tmp_path, configured, tiny_model, fault_of):
    from dataclasses import replace

    config = configured(tmp_path)
    config = replace(config, adapter=replace(config.adapter, exclude_modules=("o_porj",)))
    assert fault_of(prepared, config, tiny_model) == (
        "error SG604: exclude_modules names o_porj, which matches 0 modules of the base model"
    )
