"""runtime/training/loss.py and chunks.py: the loss over trained positions is plain cross entropy, at the cost of those positions only."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM, TrainingArguments
from transformers.trainer_pt_utils import LabelSmoother

from runtime.data.dataset import IGNORED
from runtime.models.shaping import Shaping
from runtime.training import chunks
from runtime.training.chunks import Targets, chunk_rows, chunked_losses, liger_takes
from runtime.training.loss import OutputLoss, total_weight, weight_by_row
from runtime.training.trainer import SpanTrainer

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


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """16 rows to a chunk."""
    monkeypatch.setitem(chunks.CHUNK_BYTES, "cpu", 1)
    monkeypatch.setattr(chunks, "LEAST_ROWS", 16)


def loss_of(model, inputs, **options):
    """The summed loss, and how it was come by."""
    output_loss = OutputLoss(model, **options)
    try:
        return output_loss(model, inputs), output_loss
    finally:
        output_loss.close()


def gradients(loss, model):
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


# What a family needs beside the sizes; tied and untied where its config knows both
FAMILIES = {
    "llama": {}, "mistral": {}, "qwen2": {}, "qwen3": {"head_dim": 8}, "phi": {}, "phi3": {}, "olmo": {}, "olmo2": {}, "stablelm": {},
    "starcoder2": {}, "smollm3": {}, "glm4": {"head_dim": 8}, "gpt_neox": {}, "gpt_bigcode": {}, "nemotron": {}, "lfm2": {},
    "gemma": {"head_dim": 8}, "gemma2": {"head_dim": 8, "final_logit_softcapping": 2.0}, "gemma3_text": {"head_dim": 8},
    "cohere": {"logit_scale": 0.25}, "cohere2": {"logit_scale": 4.0}, "granite": {"logits_scaling": 3.0},
    "hyperclovax": {"logits_scaling": 0.5}, "falcon": {"num_kv_heads": 2}, "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "gpt2": {}, "gptj": {"rotary_dim": 4}, "bloom": {"n_layer": 2, "n_head": 4}, "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2},
    "mixtral": {"num_local_experts": 4}, "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {"moe_intermediate_size": 32, "shared_expert_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2},
    "granitemoe": {"num_local_experts": 4, "num_experts_per_tok": 2, "logits_scaling": 2.0},
    "deepseek_v3": {
        "kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8, "num_key_value_heads": 4,
        "moe_intermediate_size": 16, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "n_shared_experts": 1,
        "first_k_dense_replace": 1,
    },
}  # fmt: skip
IDS = {"vocab_size": 97, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def of_family(kind, *, tied):
    """A small random model of a family, in float32, without dropout."""
    torch.manual_seed(0)
    older = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64} if kind in ("gpt2", "gptj", "gpt_bigcode") else {}
    config = AutoConfig.for_model(kind, **{**SIZES, **IDS, **older, **FAMILIES[kind], "tie_word_embeddings": tied})
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture(scope="module")
def batch():
    """Two rows of 40 tokens, of which 45 are trained and count differently: three chunks."""
    chance = torch.Generator().manual_seed(2)
    input_ids_BT = torch.randint(3, 97, (2, 40), generator=chance)
    labels_BT = input_ids_BT.clone()
    labels_BT[0, :20] = labels_BT[1, 5:19] = IGNORED
    labels_BT[:, 0] = IGNORED
    weights_BT = torch.rand(2, 40, generator=chance) * (labels_BT != IGNORED)
    return {"input_ids": input_ids_BT, "attention_mask": torch.ones_like(input_ids_BT), "labels": labels_BT, "weights": weights_BT}


def all_losses(model, batch, *, smoothing=0.0):
    """The reference: PyTorch's cross entropy of all logits that the model itself gives, each label's [B, T - 1]."""
    logits_BTV = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
    return functional.cross_entropy(logits_BTV[:, :-1].transpose(1, 2), batch["labels"][:, 1:], reduction="none", label_smoothing=smoothing)


def same_gradients(found, wanted):
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5 * max(1.0, float(gradient.abs().max())), rtol=1e-5, msg=name)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_loss_and_gradients_of_a_family_are_those_of_plain_cross_entropy(kind, tied, batch):
    """All weights trained, and a LoRA adapter with smoothed labels that count differently; then evaluation, row by row: not smoothed."""
    model = of_family(kind, tied=tied)
    plain = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
    (loss, how), wanted = loss_of(model, plain), all_losses(model, plain).sum()
    assert (how.whole_because, how.shaping) == (None, {"gemma2": Shaping(cap=2.0)}.get(kind, Shaping(scale=scale_of(kind))))
    torch.testing.assert_close(loss.summed, wanted, atol=1e-4, rtol=1e-6)
    same_gradients(gradients(loss.summed, model), gradients(wanted, model))
    adapted = with_lora(model).eval()
    (loss, _), wanted_BT = loss_of(adapted, batch, label_smoothing=0.1), all_losses(adapted, batch, smoothing=0.1) * batch["weights"][:, 1:]
    torch.testing.assert_close(loss.summed, wanted_BT.sum(), atol=1e-4, rtol=1e-6)
    same_gradients(gradients(loss.summed, adapted), gradients(wanted_BT.sum(), adapted))
    with torch.no_grad():
        evaluated, _ = loss_of(adapted, batch, label_smoothing=0.1)
    plain_BT = all_losses(adapted, batch) * batch["weights"][:, 1:]
    torch.testing.assert_close(evaluated.by_row(), plain_BT.sum(dim=1), atol=1e-4, rtol=1e-6)


def scale_of(kind):
    own = FAMILIES[kind]
    divides = "logits_scaling" in own and "granite" in kind
    return 1 / own["logits_scaling"] if divides else own.get("logits_scaling", own.get("logit_scale", 1.0))


def test_smoothed_labels_are_those_of_transformers(batch):
    model = tiny(tied=False)
    plain = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
    wanted = LabelSmoother(epsilon=0.2)(model(input_ids=batch["input_ids"]), batch["labels"], shift_labels=True)
    loss, _ = loss_of(model, plain, label_smoothing=0.2)
    assert (loss.summed / total_weight(plain)).item() == pytest.approx(wanted.item(), rel=1e-6)


HEADS = {
    "lora": {"target_modules": ["q_proj", "lm_head"]},
    "dora": {"target_modules": ["q_proj", "lm_head"], "use_dora": True},
    "a copy": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
}


@pytest.mark.parametrize("head", HEADS)
def test_an_output_layer_may_be_trained_in_every_way_of_peft(head, batch):
    torch.manual_seed(0)
    model = get_peft_model(tiny(tied=False), LoraConfig(r=4, task_type="CAUSAL_LM", **HEADS[head]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    (loss, how), wanted = loss_of(model, batch), (all_losses(model, batch) * batch["weights"][:, 1:]).sum()
    assert how.whole_because is None
    torch.testing.assert_close(loss.summed, wanted, atol=1e-4, rtol=1e-6)
    found, expected = gradients(loss.summed, model), gradients(wanted, model)
    assert any("lm_head" in name for name in expected)
    same_gradients(found, expected)


def test_an_output_layer_may_be_all_that_is_trained(batch):
    model = tiny(tied=False).requires_grad_(False)
    model.lm_head.requires_grad_(True)
    (loss, _), wanted = loss_of(model, batch), (all_losses(model, batch) * batch["weights"][:, 1:]).sum()
    found, expected = gradients(loss.summed, model), gradients(wanted, model)
    assert expected.keys() == {"lm_head.weight"}
    same_gradients(found, expected)


@pytest.mark.parametrize(
    ("settings", "most"),
    [
        (BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", llm_int8_skip_modules=["none"]), 1e-5),
        (BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=["none"]), 2e-2),
    ],
    ids=["nf4", "int8"],
)
def test_an_output_layer_may_be_quantized(settings, most, batch, tmp_path):
    torch.manual_seed(0)
    tiny_of_64 = LlamaForCausalLM(LlamaConfig(vocab_size=128, tie_word_embeddings=False, **{**SIZES, "hidden_size": 64}))
    tiny_of_64.save_pretrained(tmp_path)
    options = {"quantization_config": settings, "device_map": {"": "cpu"}, "dtype": torch.float32}
    model = with_lora(AutoModelForCausalLM.from_pretrained(tmp_path, **options)).train()
    assert type(model.get_output_embeddings()).__name__ in ("Linear4bit", "Linear8bitLt")
    (loss, how), wanted = loss_of(model, batch), (all_losses(model, batch) * batch["weights"][:, 1:]).sum()
    assert how.whole_because is None
    torch.testing.assert_close(loss.summed, wanted, atol=1e-3, rtol=most / 100)
    found, expected = gradients(loss.summed, model), gradients(wanted, model)
    for name, gradient in expected.items():
        assert gradient.any(), name
        torch.testing.assert_close(found[name], gradient, atol=most * float(gradient.abs().max()), rtol=most, msg=name)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_in_sixteen_bits_it_is_the_plain_one_to_rounding(dtype, batch):
    """Autocast, as training has it; the gradient of a row is that of float32 within what the plain computation is off, too."""
    model = with_lora(tiny(tied=False))
    exact = gradients(all_losses(model, batch).sum(), model)
    plain = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
    with torch.autocast("cpu", dtype=dtype):
        wanted = all_losses(model, batch).sum()
        loss, how = loss_of(model, plain)
    assert how.whole_because is None
    assert loss.summed.dtype == torch.float32
    assert float(loss.summed.detach()) == pytest.approx(float(wanted.detach()), rel=1e-3)
    found, expected = gradients(loss.summed, model), gradients(wanted, model)
    for name, gradient in exact.items():
        off = [float((other[name] - gradient).norm() / gradient.norm()) for other in (found, expected)]
        assert off[0] <= 1.5 * off[1] + 1e-3, (name, off)


class Shifted(LlamaForCausalLM):
    """Does with its logits what nobody knows of."""

    def forward(self, *arguments, **options):
        outputs = super().forward(*arguments, **options)
        outputs.logits = outputs.logits + 0.5 * outputs.logits.sin()
        return outputs


class Uncalled(LlamaForCausalLM):
    """Has an output layer, and uses its weight only."""

    def forward(self, input_ids, attention_mask=None, **_):
        hidden_BTD = self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
        return type("Outputs", (), {"logits": functional.linear(hidden_BTD, self.lm_head.weight)})


@pytest.mark.parametrize(
    ("made", "why"),
    [(Shifted, "what the model does with its numbers is not known"), (Uncalled, "the model does not call it as a module")],
)
def test_a_model_that_is_not_understood_makes_its_logits_itself(made, why, batch):
    torch.manual_seed(0)
    model = made(LlamaConfig(vocab_size=97, tie_word_embeddings=False, **SIZES))
    output_loss = OutputLoss(model)
    for _ in range(2):  # known, the second time
        loss, wanted = output_loss(model, batch), (all_losses(model, batch) * batch["weights"][:, 1:]).sum()
        assert output_loss.whole_because == why
        torch.testing.assert_close(loss.summed, wanted, atol=1e-4, rtol=1e-6)
        same_gradients(gradients(loss.summed, model), gradients(wanted, model))


def test_what_a_config_says_and_the_model_does_not_do_is_found_out(batch):
    model = tiny(tied=False)
    model.config.final_logit_softcapping, model.config.logit_scale = 2.0, 0.5
    (loss, how), wanted = loss_of(model, batch), (all_losses(model, batch) * batch["weights"][:, 1:]).sum()
    assert (how.whole_because, how.shaping) == (None, Shaping())
    torch.testing.assert_close(loss.summed, wanted, atol=1e-4, rtol=1e-6)


def test_experts_are_balanced_where_the_config_asks_for_it(batch):
    """The reference: transformers' own loss with labels, less its cross entropy."""
    torch.manual_seed(0)
    options = {**SIZES, **IDS, "num_local_experts": 4, "output_router_logits": True, "router_aux_loss_coef": 0.3}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("mixtral", **options)).eval()
    plain = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
    whole = model(**plain, use_cache=False).loss
    loss, _ = loss_of(model, plain)
    assert loss.auxiliary.item() > 0.1
    assert (loss.summed / total_weight(plain) + loss.auxiliary).item() == pytest.approx(whole.item(), rel=1e-6)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_the_output_layer_sees_trained_positions_only_a_chunk_at_a_time(tied, inputs, batch):
    model = with_lora(tiny(tied=tied))
    output_layer, seen = model.get_output_embeddings(), []
    forward = output_layer.forward
    output_layer.forward = lambda hidden: seen.append(tuple(hidden.shape)) or forward(hidden)
    output_loss = OutputLoss(model)
    output_loss(model, inputs)
    assert seen == [(8, 32), (1, 4, 32), (1, 4, 32)]  # 5 + 3 labels, the one on the first position is predicted by nothing; the probes
    seen.clear()
    output_loss(model, batch)
    assert seen == [(16, 32), (16, 32), (13, 32), (1, 1, 32)]


def test_the_model_gives_all_logits_between_batches_and_afterwards(inputs):
    model = tiny(tied=True)
    output_loss = OutputLoss(model)
    with pytest.raises(IndexError):
        output_loss(model, {**inputs, "input_ids": inputs["input_ids"] + 97})
    assert model(input_ids=inputs["input_ids"]).logits.shape == (3, 12, 97)
    output_loss(model, inputs)
    assert model(input_ids=inputs["input_ids"]).logits.shape == (3, 12, 97)
    output_loss.close()
    assert not model.lm_head._forward_pre_hooks
    assert not model.lm_head._forward_hooks


def test_a_batch_without_a_trained_token_has_a_loss_of_zero_and_gradients_of_zero(inputs):
    model = tiny(tied=False)
    loss, _ = loss_of(model, {**inputs, "labels": torch.full_like(inputs["labels"], IGNORED)})
    assert float(loss.summed) == 0.0
    assert not any(gradient.any() for gradient in gradients(loss.summed, model).values())


def test_a_chunk_is_as_many_rows_as_have_64_mib_of_logits_in_float32_and_128_at_least(monkeypatch):
    monkeypatch.setitem(chunks.CHUNK_BYTES, "cpu", 64 * 2**20)
    monkeypatch.setattr(chunks, "LEAST_ROWS", 128)
    assert [chunk_rows(vocabulary, "cpu") for vocabulary in (49_152, 92_544, 262_144)] == [341, 181, 128]
    assert chunk_rows(92_544, "cpu", trained_columns=2048) == 512


class OnGpu(torch.Tensor):
    """A tensor that says that it is on a GPU."""

    is_cuda = True


def test_liger_is_not_for_a_cpu_nor_for_what_it_cannot_do():
    layer, hidden = torch.nn.Linear(8, 16, bias=False), torch.zeros(3, 8).as_subclass(OnGpu).requires_grad_()
    targets = Targets(tokens=torch.tensor([1, 2, 3]), weights=None, label_smoothing=0.0)
    assert liger_takes(layer, hidden, targets, Shaping())
    others = {
        "on a CPU": (layer, torch.zeros(3, 8, requires_grad=True), targets, Shaping()),
        "no row: it divides by zero": (layer, hidden[:0], replace(targets, tokens=targets.tokens[:0]), Shaping()),
        "only the layer is trained: it makes no gradient of it": (layer, hidden.detach(), targets, Shaping()),
        "another type": (layer, hidden.half(), targets, Shaping()),
        "rows that weigh": (layer, hidden, replace(targets, weights=torch.ones(3)), Shaping()),
        "a factor": (layer, hidden, targets, Shaping(scale=0.5)),
        "no plain layer": (torch.nn.Sequential(layer), hidden, targets, Shaping()),
    }
    assert [name for name, arguments in others.items() if liger_takes(*arguments)] == []


def test_liger_makes_the_loss_only_where_the_spec_asks_for_its_kernels(inputs, monkeypatch, tmp_path):
    monkeypatch.setattr(chunks, "liger_takes", lambda *_: True)
    monkeypatch.setattr(chunks, "_by_liger", lambda *_: torch.tensor(16.0))
    model = tiny(tied=False)
    assert float(loss_of(model, inputs)[0].summed) != 16
    assert float(loss_of(model, inputs, by_liger=True)[0].summed) == 16
    arguments = TrainingArguments(str(tmp_path), use_cpu=True, report_to=[], disable_tqdm=True)
    for asked in (False, True):
        trainer = SpanTrainer(model=model, args=arguments, train_dataset=Lines(inputs), data_collator=torch.utils.data.default_collate)
        trainer.args.use_liger_kernel = asked  # afterwards: Trainer itself would want the package
        assert (float(trainer.compute_loss(model, inputs, num_items_in_batch=1)) == 16) == asked
        trainer.output_loss.close()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="Liger's kernels run on a GPU")
def test_liger_gives_the_loss_and_gradients_of_our_own_chunks():
    pytest.importorskip("liger_kernel")
    torch.manual_seed(0)
    layer = torch.nn.Linear(64, 1000, bias=False, device="cuda", dtype=torch.bfloat16)
    hidden = torch.randn(100, 64, device="cuda", dtype=torch.bfloat16)
    targets = Targets(tokens=torch.randint(1000, (100,), device="cuda"), weights=None, label_smoothing=0.1)
    found = []
    for scale in (1.0, 1.0 + 1e-7):  # a factor, which Liger does not know, and which is none in 16 bits
        own, shaping = hidden.clone().requires_grad_(), Shaping(cap=30.0, scale=scale)
        assert liger_takes(layer, own, targets, shaping) == (scale == 1)
        loss, _ = chunked_losses(layer, own, targets, shaping, rows=32, by_liger=True)
        found.append((loss.detach(), *torch.autograd.grad(loss, [own, layer.weight])))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one.float(), other.float(), atol=2e-2 * float(other.abs().max()), rtol=2e-2)


WEIGHTS = [[0.0] * 7 + [2.0] * 3 + [0.5] * 2, [4.0] + [0.0] * 5 + [0.5] * 3 + [0.0] * 3, [0.0] * 12]


def plain_weighted(model, inputs):
    """The reference: (sum of weight times cross entropy, sum of weights) over the labels that something predicts."""
    logits_BTV = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
    losses_BT = functional.cross_entropy(logits_BTV[:, :-1].transpose(1, 2), inputs["labels"][:, 1:], reduction="none")
    return (losses_BT * inputs["weights"][:, 1:]).sum(), inputs["weights"][:, 1:].sum()


def test_weighted_loss_and_gradients_are_those_of_a_plain_sum(inputs):
    inputs["weights"] = torch.tensor(WEIGHTS)
    model = tiny(tied=False)
    loss, _ = loss_of(model, inputs)
    expected, total = plain_weighted(model, inputs)
    torch.testing.assert_close(loss.summed, expected, atol=1e-5, rtol=1e-6)
    assert total_weight(inputs) == total == 8.5
    assert weight_by_row(inputs).tolist() == [7.0, 1.5, 0.0]
    found, wanted = gradients(loss.summed, model), gradients(expected, model)
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-5)


def test_a_weight_of_two_is_the_message_twice(inputs):
    model = tiny(tied=False)
    row = {name: tensor[:1] for name, tensor in inputs.items()}
    twice = {name: tensor.repeat(2, 1) for name, tensor in row.items()}
    weighted = row | {"weights": 2.0 * (row["labels"] != IGNORED)}
    losses = [float(loss_of(model, batch)[0].summed) for batch in (twice, weighted)]
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
