"""runtime/loss.py: the loss over trained positions is the plain cross entropy, at the cost of those positions only."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, TrainingArguments

from runtime.data.dataset import IGNORED
from runtime.loss import total_weight, trained_positions_loss
from runtime.trainer import SpanTrainer

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


WEIGHTS = [[0.0] * 7 + [2.0] * 3 + [0.5] * 2, [4.0] + [0.0] * 5 + [0.5] * 3 + [0.0] * 3, [0.0] * 12]


def plain_weighted(model, inputs):
    """The reference: (sum of weight times cross entropy, sum of weights) over the labels that something predicts."""
    logits_BTV = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
    losses_BT = functional.cross_entropy(logits_BTV[:, :-1].transpose(1, 2), inputs["labels"][:, 1:], reduction="none")
    return (losses_BT * inputs["weights"][:, 1:]).sum(), inputs["weights"][:, 1:].sum()


def test_weighted_loss_and_gradients_are_those_of_a_plain_sum(inputs):
    inputs["weights"] = torch.tensor(WEIGHTS)
    model = tiny(tied=False)
    loss = trained_positions_loss(model, model.get_output_embeddings(), inputs)
    expected, total = plain_weighted(model, inputs)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-6)
    assert total_weight(inputs) == total == 8.5
    found, wanted = gradients(loss, model), gradients(expected, model)
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-5)


def test_a_weight_of_two_is_the_message_twice(inputs):
    model = tiny(tied=False)
    row = {name: tensor[:1] for name, tensor in inputs.items()}
    twice = {name: tensor.repeat(2, 1) for name, tensor in row.items()}
    weighted = row | {"weights": 2.0 * (row["labels"] != IGNORED)}
    losses = [float(trained_positions_loss(model, model.get_output_embeddings(), batch)) for batch in (twice, weighted)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert total_weight(twice) == total_weight(weighted) == 10


class Lines(torch.utils.data.Dataset):
    def __init__(self, batch):
        self.batch = batch

    def __len__(self):
        return len(self.batch["labels"])

    def __getitem__(self, index):
        return {name: tensor[index] for name, tensor in self.batch.items()}


@pytest.mark.parametrize("weights", [None, [[0.0] * 7 + [3.0] * 5, [0.0] * 6 + [0.5] * 6, [0.0] * 11 + [1.0]]], ids=["even", "weighted"])
def test_a_step_is_that_of_the_weighted_mean_over_all_its_micro_batches(inputs, weights, tmp_path):
    """Rows of 5, 3 and 1 trained tokens, one to a micro batch, three to a step of plain gradient descent."""
    inputs["labels"][1] = torch.where(torch.arange(12) >= 6, inputs["input_ids"][1], IGNORED)
    inputs["labels"][2, 11] = inputs["input_ids"][2, 11]
    inputs["attention_mask"][:] = 1
    inputs["tokens"] = torch.tensor([12, 12, 12])
    even = (inputs["labels"] != IGNORED).float()
    given = inputs if weights is None else inputs | {"weights": torch.tensor(weights)}
    model, reference = tiny(tied=False), tiny(tied=False)
    summed, total = plain_weighted(reference, {"weights": even, **given})
    wanted = gradients(summed / total, reference)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    options = {"max_steps": 1, "learning_rate": 0.5, "lr_scheduler_type": "constant", "optim": "sgd", "max_grad_norm": 0.0}
    arguments = TrainingArguments(
        str(tmp_path), per_device_train_batch_size=1, gradient_accumulation_steps=3, use_cpu=True, report_to=[], save_strategy="no",
        disable_tqdm=True, remove_unused_columns=False, **options,
    )  # fmt: skip
    SpanTrainer(model=model, args=arguments, train_dataset=Lines(given), data_collator=torch.utils.data.default_collate).train()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(before[name] - parameter, 0.5 * wanted.get(name, torch.zeros(())), atol=1e-5, rtol=1e-4)
