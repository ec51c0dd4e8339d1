"""Parameters, modules and shapes from a config.json alone, against the published counts."""

from __future__ import annotations

import math

import pytest

from specgen.facts.architectures import stored_tensors
from specgen.facts.model import facts_from_config, read_model_facts
from specgen.facts.published import FOLDER, published_config
from specgen.plan import LocalBase

# parameters as the hub counts them in the safetensors files; of tied models whose files hold the output layer twice
# (Qwen3 0.6B and 1.7B) without the copy
PUBLISHED = {
    "HuggingFaceTB/SmolLM2-135M": 134_515_008,
    "HuggingFaceTB/SmolLM2-360M": 361_821_120,
    "HuggingFaceTB/SmolLM2-1.7B": 1_711_376_384,
    "Qwen/Qwen2.5-0.5B-Instruct": 494_032_768,
    "Qwen/Qwen2.5-1.5B-Instruct": 1_543_714_304,
    "Qwen/Qwen2.5-3B-Instruct": 3_085_938_688,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "Qwen/Qwen2.5-14B-Instruct": 14_770_033_664,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-1.7B": 1_720_574_976,
    "Qwen/Qwen3-4B": 4_022_468_096,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "Qwen/Qwen3-14B": 14_768_307_200,
    "Qwen/Qwen3-32B": 32_762_123_264,
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": 8_030_261_248,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": 1_777_088_000,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": 7_615_616_512,
    "google/gemma-2-2b": 2_614_341_888,
    "google/gemma-2-9b": 9_241_705_984,
    "google/gemma-3-1b-it": 999_885_952,
    "internlm/internlm2-chat-1_8b": 1_889_110_016,
    "internlm/internlm2-chat-7b": 7_737_708_544,
    "internlm/internlm2-chat-20b": 19_861_149_696,
    "internlm/internlm3-8b-instruct": 8_804_241_408,
    "lmsys/vicuna-7b-v1.5": 6_738_415_616,
    "lmsys/vicuna-13b-v1.5": 13_015_864_320,
    "meta-llama/Meta-Llama-3-8B-Instruct": 8_030_261_248,
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "meta-llama/Llama-3.1-70B": 70_553_706_496,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-3.2-3B": 3_212_749_824,
    "microsoft/Phi-3.5-mini-instruct": 3_821_079_552,
    "microsoft/Phi-4-mini-instruct": 3_836_021_760,
    "mistralai/Mistral-7B-v0.3": 7_248_023_552,
}
SMALL = {
    "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 3, "vocab_size": 32,
}  # fmt: skip
FEED_FORWARD = {"gate_proj": (8, 16), "up_proj": (8, 16), "down_proj": (16, 8)}


@pytest.mark.parametrize(("repo", "parameters"), PUBLISHED.items())
def test_the_parameters_are_as_many_as_were_published(repo, parameters):
    assert facts_from_config(published_config(repo), origin="published").parameters == parameters


@pytest.mark.parametrize("repo", sorted(file.stem.replace("--", "/", 1) for file in FOLDER.glob("*.json")))
def test_every_published_config_is_read_whole(repo):
    config = published_config(repo)
    facts = facts_from_config(config, origin="published")
    assert len(facts.linear) % config["num_hidden_layers"] == 0
    assert facts.tie_word_embeddings == config["tie_word_embeddings"]
    assert facts.max_positions == config["max_position_embeddings"]
    assert (facts.origin, facts.chat_template, facts.template_known) == ("published", None, False)


@pytest.mark.parametrize(
    ("kind", "linear"),
    [
        ("llama", {"q_proj": (8, 12), "k_proj": (8, 6), "v_proj": (8, 6), "o_proj": (12, 8)} | FEED_FORWARD),
        ("phi3", {"qkv_proj": (8, 24), "o_proj": (12, 8), "gate_up_proj": (8, 32), "down_proj": (16, 8)}),
    ],
)  # fmt: skip
def test_linear_modules_have_in_and_out_features_and_the_output_layer_is_none_of_them(kind, linear):
    facts = facts_from_config({**SMALL, "model_type": kind}, origin="config.json")
    assert {name.rpartition(".")[2]: shape for name, shape in facts.linear.items()} == linear
    assert facts.tensors["model.embed_tokens.weight"] == (32, 8)


def test_internlm2_is_a_llama_in_another_layout():
    facts, llama = (facts_from_config({**SMALL, "model_type": kind}, origin="config.json") for kind in ("internlm2", "llama"))
    assert (facts.model_type, facts.tensors, facts.linear) == ("llama", llama.tensors, llama.linear)
    assert facts.config["model_type"] == "internlm2"


def test_a_folder_of_internlm2_has_a_llamas_modules(root):
    facts = read_model_facts(LocalBase(path=str(root / "tests/internlm2/rope_dynamic_gqa3")))
    # expected from the shapes in model.safetensors: 10 tensors
    assert facts.parameters == 2 * 128 * 48 + 80 * 48 + 48 * 48 + 3 * 64 * 48 + 3 * 48
    assert facts.linear["model.layers.0.self_attn.q_proj"] == (48, 48)
    assert facts.linear["model.layers.0.self_attn.k_proj"] == (48, 16)
    assert "lm_head" in facts.modules


def test_internlm2_with_biases_is_no_llama():
    with pytest.raises(ValueError, match=r"its config\.json has bias true; InternLM2 is converted into a Llama without biases only"):
        facts_from_config({**SMALL, "model_type": "internlm2", "bias": True}, origin="config.json")


@pytest.mark.parametrize(
    ("config", "biases"),
    [
        ({"model_type": "llama"}, 0),
        ({"model_type": "llama", "attention_bias": True}, 12 + 6 + 6 + 8),
        ({"model_type": "llama", "mlp_bias": True}, 16 + 16 + 8),
        ({"model_type": "qwen2"}, 12 + 6 + 6),
        ({"model_type": "internlm3", "qkv_bias": False, "bias": False}, 0),
        ({"model_type": "internlm3", "qkv_bias": True, "bias": True}, 12 + 6 + 6 + 8 + 16 + 16 + 8),
    ],
)
def test_biases_count(config, biases):
    tensors = stored_tensors({**SMALL, **config})
    assert sum(math.prod(shape) for name, shape in tensors.items() if name.endswith(".bias")) == biases


def test_internlm3_with_some_biases_is_no_llama():
    words = r"its config\.json has qkv_bias true and bias false; transformers' Llama, which InternLM3 is there, has both or neither"
    with pytest.raises(ValueError, match=words):
        stored_tensors({**SMALL, "model_type": "internlm3", "qkv_bias": True, "bias": False})


def test_gemma_is_tied_unless_its_config_says_otherwise():
    assert "lm_head.weight" not in stored_tensors({**SMALL, "model_type": "gemma2"})
    assert "lm_head.weight" in stored_tensors({**SMALL, "model_type": "gemma2", "tie_word_embeddings": False})
    assert "lm_head.weight" in stored_tensors({**SMALL, "model_type": "llama"})


def test_an_unknown_model_type_is_not_guessed():
    assert facts_from_config({**SMALL, "model_type": "mamba"}, origin="config.json") is None
    assert facts_from_config(SMALL, origin="config.json") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": None}, "its config.json has no hidden_size"),
        ({"vocab_size": "many"}, "its config.json has vocab_size 'many'; it has to be a whole number from 1 on"),
        ({"num_hidden_layers": True}, "its config.json has num_hidden_layers True; it has to be a whole number from 1 on"),
        ({"num_attention_heads": 0}, "its config.json has num_attention_heads 0; it has to be a whole number from 1 on"),
        ({"num_hidden_layers": 10**12}, "its config.json has 1,000,000,000,000 layers; at most 10,000 are believed"),
        ({"head_dim": None}, "its config.json has no head_dim"),
    ],
)
def test_a_size_that_is_missing_or_wrong_is_named(change, message):
    with pytest.raises(ValueError, match=r"config\.json") as raised:
        stored_tensors({**SMALL, "model_type": "qwen3", **change})
    assert str(raised.value) == message
