"""runtime/training/by_rows.py: rows in a line are computed as each would be alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from runtime.data.dataset import load_rows, rows_in
from runtime.training import by_rows, isolation
from runtime.training.by_rows import layout_of
from runtime.training.ready import made_ready

LENGTHS = (5, 40, 33, 150, 200, 7)  # two of them are longer than what is computed with scores
SIZES = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "pad_token_id": 0}
FAMILIES = {
    "Llama": (LlamaForCausalLM, LlamaConfig, {}),
    "Llama, grouped heads": (LlamaForCausalLM, LlamaConfig, {"num_key_value_heads": 2}),
    "Mistral with a window": (MistralForCausalLM, MistralConfig, {"num_key_value_heads": 2, "sliding_window": 30}),
    "Qwen3": (Qwen3ForCausalLM, Qwen3Config, {"num_key_value_heads": 1, "head_dim": 16}),
    "Phi-3": (Phi3ForCausalLM, Phi3Config, {}),
    "Gemma 3": (Gemma3ForCausalLM, Gemma3TextConfig, {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 64}),
}


@pytest.fixture(autouse=True)
def known():
    by_rows.register()


def small(family):
    model, config, options = FAMILIES[family]
    torch.manual_seed(0)
    return model(config(**SIZES, **options)).eval()


def rows():
    chance = torch.Generator().manual_seed(1)
    return [torch.randint(1, 64, (length,), generator=chance) for length in LENGTHS]


def in_line(found):
    return {"input_ids": torch.cat(found)[None], "position_ids": torch.cat([torch.arange(len(row)) for row in found])[None]}


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_and_gradients_are_those_of_the_rows_alone(family):
    model = small(family)
    model.set_attn_implementation("eager")
    alone = torch.cat([model(input_ids=row[None]).logits[0] for row in rows()])
    alone.square().mean().backward()
    wanted = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    model.set_attn_implementation("by_rows")
    found = model(**in_line(rows()), use_cache=False).logits[0]
    found.square().mean().backward()
    torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-5)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.grad, wanted[name], rtol=1e-3, atol=1e-6, msg=name)


def test_gradients_are_the_same_with_gradient_checkpointing():
    model = small("Llama, grouped heads").train()
    model.set_attn_implementation("by_rows")
    found = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable()
        model.zero_grad()
        model(**in_line(rows()), use_cache=False).logits.square().mean().backward()
        found.append([weight.grad.clone() for weight in model.parameters()])
    assert all(map(torch.equal, *found))


def test_dropout_takes_weights_and_not_whole_rows():
    config = LlamaConfig(**SIZES, attention_dropout=0.5)
    model = LlamaForCausalLM(config).train()
    model.set_attn_implementation("by_rows")
    first, second = (model(**in_line(rows()[:3]), use_cache=False).logits for _ in range(2))
    assert not torch.equal(first, second)
    model.eval()
    first, second = (model(**in_line(rows()[:3]), use_cache=False).logits for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("family", ["Llama, grouped heads", "Mistral with a window"])
def test_padded_rows_and_answers_are_those_of_sdpa(family):
    model = small(family)
    row = rows()[1]
    mask = torch.ones(2, 40, dtype=torch.long)
    mask[1, :9] = 0
    found = []
    for attention in ("sdpa", "by_rows"):
        model.set_attn_implementation(attention)
        padded = model(input_ids=row.expand(2, -1), attention_mask=mask).logits[mask.bool()]
        answers = model.generate(row.expand(2, -1), attention_mask=mask, max_new_tokens=12, do_sample=False)
        found.append((padded, answers))
    torch.testing.assert_close(*(padded for padded, _ in found))
    assert torch.equal(*(answers for _, answers in found))


def test_rows_of_about_the_same_length_are_computed_together():
    positions = torch.cat([torch.arange(length) for length in (10, 9, 100, 8, 95, 3, 150)])[None]
    layout = layout_of(positions)
    assert [(group.rows, group.length, group.future is None) for group in layout.groups] == [
        (1, 150, True),
        (2, 100, False),
        (3, 10, False),
        (1, 3, False),
    ]
    assert torch.equal(layout.places[layout.back], torch.arange(positions.numel()))


def test_lines_of_a_batch_begin_rows_of_their_own():
    layout = layout_of(torch.tensor([[0, 1, 2, 0, 1], [3, 4, 5, 6, 7]]))
    assert [(group.rows, group.length) for group in layout.groups] == [(1, 5), (1, 3), (1, 2)]


def batch_of(ready):
    line = [{"input_ids": np.arange(1, length + 1), "trained": np.ones(length, dtype=np.uint8)} for length in (5, 3)]
    return ready.collate(line)


def test_a_run_on_a_cpu_lays_the_rows_of_a_batch_in_a_line(tmp_path, configured, finished):
    rows, _ = load_rows(finished[1] / "data")
    ready = made_ready(configured(tmp_path), rows, tmp_path / "out", torch.device("cpu"))
    batch = batch_of(ready)
    assert ready.attention.name == "by_rows"
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 0, 1, 2]]
    assert batch["labels"].tolist() == [[-100, 2, 3, 4, 5, -100, 2, 3]]
    assert batch["tokens"].tolist() == [5, 3]
    assert [row.tolist() for row in rows_in(batch)] == [[1, 2, 3, 4, 5], [1, 2, 3]]
    assert "attention_mask" not in batch


def test_a_model_that_does_not_tell_rows_apart_by_their_positions_gets_padded_ones(tmp_path, configured, finished, monkeypatch):
    monkeypatch.setattr(isolation, "is_kept", lambda _model: False)
    rows, _ = load_rows(finished[1] / "data")
    ready = made_ready(configured(tmp_path), rows, tmp_path / "out", torch.device("cpu"))
    assert ready.attention.name == "eager"
    assert ready.model.config._attn_implementation == "eager"
    assert batch_of(ready)["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]


@pytest.mark.parametrize(
    "sections",
    [
        pytest.param({"train": {"torch_compile": True}}, id="compiled"),
        pytest.param({"distributed": {"processes_per_node": 2}}, id="two processes"),
        pytest.param({"model": {"attention": "sdpa"}}, id="another attention by name"),
    ],
)
def test_batches_stay_padded_where_rows_are_counted_or_the_spec_says_so(tmp_path, configured, finished, sections):
    rows, _ = load_rows(finished[1] / "data")
    ready = made_ready(configured(tmp_path, **sections), rows, tmp_path / "out", torch.device("cpu"))
    assert ready.attention.name != "by_rows"


def test_positions_that_the_model_ignores_are_found_out():
    llama = small("Llama")
    llama.set_attn_implementation("by_rows")
    assert isolation.is_kept(llama)
    for layer in llama.model.layers:  # as in a family whose layers do not hand them on
        layer.self_attn.register_forward_pre_hook(lambda _layer, _args, named: (_args, {**named, "position_ids": None}), with_kwargs=True)
    assert not isolation.is_kept(llama)
