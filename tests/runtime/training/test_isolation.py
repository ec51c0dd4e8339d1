"""runtime/training/isolation.py: packed rows do not see each other, shown on the model that is trained; where they do, no step is made."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from runtime.stages import read_stage
from runtime.training.isolation import difference, prove_apart
from tests.runtime.training.test_sampling import SOURCES

WINDOW = {"sliding_window": 4}
SIZES = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
APART = {
    "llama": {},
    "mistral": WINDOW,
    "qwen2": {"use_sliding_window": True, "max_window_layers": 1, **WINDOW},
    "qwen3": {"head_dim": 16},
    "gemma2": {"head_dim": 16, "query_pre_attn_scalar": 16, **WINDOW},
    "gemma3_text": {"head_dim": 16, "query_pre_attn_scalar": 16, **WINDOW},
    "phi3": {},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "gpt2": {"n_embd": 64, "n_layer": 3, "n_head": 4},
}
TOGETHER = {
    "opt": {"ffn_dim": 128, "word_embed_proj_dim": 64},
    "bloom": {"n_head": 4, "n_layer": 3},
    "falcon": {"alibi": False},
    "mamba": {"state_size": 8},
    "lfm2": {"full_attn_idxs": [1]},
    "gpt_oss": {"head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2, **WINDOW},
}


def made(family, settings, attention="eager"):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SIZES, **settings), attn_implementation=attention)
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.15)  # so that rows have much to say to each other
    return model.eval()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", APART)
def test_packed_rows_are_apart(family, attention):
    if (family, attention) == ("gemma2", "sdpa"):
        pytest.skip("transformers offers Gemma 2 no sdpa")
    model = made(family, APART[family], attention)
    with torch.no_grad():
        assert difference(model) < 1e-5
        assert difference(model.bfloat16()) < 0.03
    assert prove_apart(model, attention) < 0.03


@pytest.mark.parametrize("family", TOGETHER)
def test_a_model_whose_packed_rows_see_each_other_is_refused(family, fault_of):
    model = made(family, TOGETHER[family])
    with torch.no_grad():
        share = difference(model)
    assert share > 0.2
    assert fault_of(prove_apart, model, "eager") == (
        "error SG494: with model.attention: eager this model lets packed rows see each other: its answers to a packed row"
        f" differ from those to it alone by {share:.0%} of their spread\n"
        "  hint: write data.packing: false; train.group_by_length: true leaves little padding, too"
    )
    with pytest.raises(Exception, match="SG494"):
        prove_apart(model.bfloat16(), "eager")


def test_a_model_stays_in_training_with_its_dropout():
    model = made("llama", {"attention_dropout": 0.5}).train()
    assert prove_apart(model, "eager") < 1e-5
    assert model.training


def test_a_run_that_packs_keeps_the_proof(tmp_path, compiled, carried_out):
    build = compiled(tmp_path, data={"sources": SOURCES, "packing": True}, train={"epochs": 1})
    run = carried_out(build, tmp_path / "runs", "data", "train")
    assert read_stage(run, "train")["summary"]["packed_difference"] < 1e-5


def test_a_run_that_does_not_pack_has_none(finished):
    _, run = finished
    assert read_stage(run, "train")["summary"]["packed_difference"] is None
