"""runtime/training/fused_lora.py: a layer's adapter in one operation gives what peft's four give."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.layer import Linear
from transformers import LlamaConfig, LlamaForCausalLM

from runtime.training.fused_lora import fused

IDS = torch.randint(64, (2, 9), generator=torch.Generator().manual_seed(1))


def small(**options):
    """A random Llama with an adapter whose both factors are random, too."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, attention_bias=True
    )
    model = get_peft_model(LlamaForCausalLM(config), LoraConfig(**{"r": 4, "lora_alpha": 12, "target_modules": "all-linear", **options}))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.train()


def step(model, dtype=torch.float32):
    """The loss of a step, and the gradients of what is trained."""
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        loss = model(input_ids=IDS, labels=IDS).loss
    loss.backward()
    return loss.detach(), {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}


def counted(model):
    """How many layers are computed in one operation."""
    return sum("forward" in vars(module) for module in model.modules())


def test_the_loss_and_all_gradients_are_those_of_peft():
    model = small()
    loss, gradients = step(model)
    with fused(model):
        assert counted(model) == 14
        found, found_gradients = step(model)
    assert counted(model) == 0
    torch.testing.assert_close(found, loss, rtol=1e-6, atol=1e-6)
    assert found_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(found_gradients[name], gradient, rtol=1e-4, atol=1e-7, msg=name)


def test_in_bfloat16_it_is_no_farther_from_the_exact_gradients_than_peft_is():
    model = small()
    _, exact = step(model)
    half = copy.deepcopy(model)
    for parameter in half.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()
    _, by_peft = step(half, torch.bfloat16)
    with fused(half):
        _, found = step(half, torch.bfloat16)

    def distance(gradients):
        return sum(float((gradients[name] - exact[name]).square().sum()) for name in exact) ** 0.5

    assert all(gradient.dtype == torch.float32 for gradient in found.values())
    assert distance(found) < 1.1 * distance(by_peft)


def test_an_adapter_that_is_switched_off_or_merged_is_left_to_peft():
    model = small()
    with torch.no_grad(), fused(model):
        whole = model(input_ids=IDS).logits
        with model.disable_adapter():
            base = model(input_ids=IDS).logits
        model.merge_adapter()
        merged = model(input_ids=IDS).logits
    assert (whole - base).abs().max() > 0.01
    torch.testing.assert_close(merged, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"lora_dropout": 0.1}, id="dropout"),
        pytest.param({"use_dora": True}, id="DoRA"),
        pytest.param({"lora_bias": True}, id="a bias of the adapter's"),
        pytest.param({"bias": "lora_only"}, id="a trained bias"),
    ],
)
def test_what_is_no_plain_adapter_of_a_frozen_layer_is_left_to_peft(options):
    model = small(**options)
    with fused(model):
        assert counted(model) == 0 if options != {"bias": "lora_only"} else counted(model) < 14


def test_weights_that_are_shared_out_among_processes_are_left_to_peft():
    model = small()
    layer = next(module for module in model.modules() if type(module) is Linear)
    layer.get_base_layer().weight.ds_id = 0
    with fused(model):
        assert counted(model) == 13


def test_nothing_changes_where_it_is_not_asked_for():
    model = small()
    with fused(model, active=False):
        assert counted(model) == 0
