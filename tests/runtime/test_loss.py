"""runtime/loss.py: the loss over trained positions is the plain cross entropy, at the cost of those positions only."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from runtime.data.dataset import IGNORED
from runtime.loss import trained_positions_loss

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}


def tiny(*, tied):
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(vocab_size=97, tie_word_embeddings=tied, **SIZES))


def with_lora(model):
    wrapped = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)  # at zero, lora_A would have no gradient
    return wrapped


@pytest.fixture
def inputs():
    """Three right-padded rows; 9 labels, one of them at the very end and one on the first position, which nothing predicts."""
    generator = torch.Generator().manual_seed(1)
    input_ids_BT = torch.randint(0, 97, (3, 12), generator=generator)
    attention_mask_BT = torch.ones_like(input_ids_BT)
    attention_mask_BT[1, 9:] = 0
    labels_BT = torch.full_like(input_ids_BT, IGNORED)
    for row, start, end in ((0, 7, 12), (1, 0, 1), (1, 6, 9)):
        labels_BT[row, start:end] = input_ids_BT[row, start:end]
    return {"input_ids": input_ids_BT, "attention_mask": attention_mask_BT, "labels": labels_BT}


def plain_loss(model, inputs):
    """The reference: cross entropy of all logits, the label of a position predicted by the one before it."""
    logits_BTV = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
    return functional.cross_entropy(logits_BTV[:, :-1].flatten(0, 1), inputs["labels"][:, 1:].flatten(), reduction="sum")


def gradients(loss, model):
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("made", [lambda tied: tiny(tied=tied), lambda tied: with_lora(tiny(tied=tied))], ids=["plain", "lora"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_loss_and_all_gradients_are_those_of_plain_cross_entropy(made, tied, inputs):
    model = made(tied)
    loss, expected = trained_positions_loss(model, model.get_output_embeddings(), inputs), plain_loss(model, inputs)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-6)
    found, wanted = gradients(loss, model), gradients(expected, model)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert gradient.any(), name
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_the_output_layer_sees_exactly_the_trained_positions(tied, inputs):
    model = with_lora(tiny(tied=tied))
    seen = []
    output_layer = model.get_output_embeddings()
    output_layer.register_forward_hook(lambda _module, arguments, _output: seen.append(tuple(arguments[0].shape)))
    trained_positions_loss(model, output_layer, inputs)
    assert seen == [(8, 32)]  # 5 + 3 labels; the one on the first position is predicted by nothing


def test_the_model_gives_all_logits_again_afterwards(inputs):
    model = tiny(tied=True)
    trained_positions_loss(model, model.get_output_embeddings(), inputs)
    assert model(input_ids=inputs["input_ids"]).logits.shape == (3, 12, 97)


def test_the_model_gives_all_logits_again_after_a_failure(inputs):
    model = tiny(tied=True)
    outside = {**inputs, "input_ids": inputs["input_ids"] + 97}
    with pytest.raises(IndexError):
        trained_positions_loss(model, model.get_output_embeddings(), outside)
    assert model(input_ids=inputs["input_ids"]).logits.shape == (3, 12, 97)
