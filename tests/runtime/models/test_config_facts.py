"""What the compiler reckons from a config.json, against transformers' own classes on the meta device."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from specgen.facts.model import facts_from_config
from specgen.facts.published import published_config

REPOS = [
    "HuggingFaceTB/SmolLM2-135M",
    "Qwen/Qwen2.5-0.5B-Instruct",
    "Qwen/Qwen3-0.6B",
    "google/gemma-2-2b",
    "google/gemma-3-1b-it",
    "internlm/internlm3-8b-instruct",
    "microsoft/Phi-3.5-mini-instruct",
    "mistralai/Mistral-7B-v0.3",
]


@pytest.mark.parametrize("repo", REPOS)
def test_tensors_and_modules_are_those_of_the_class_itself(repo):
    published = published_config(repo)
    facts = facts_from_config(published, origin="published")
    settings = {key: value for key, value in published.items() if key != "model_type"}
    config = AutoConfig.for_model(published["model_type"], **settings)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    modules = {
        name: (module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    }
    assert facts.linear == modules
    assert facts.tensors == {name: tuple(tensor.shape) for name, tensor in model.named_parameters()}
    assert facts.parameters == model.num_parameters()
