"""runtime/models/gguf.py: a .gguf base model becomes a Hugging Face folder of the same weights, once and as a whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from runtime.config import LocalBase, ModelConfig, TemplateConfig
from runtime.models import gguf as converting
from runtime.models.base import begin_conversion, folder_of, has_tokenizer
from runtime.models.model import load_tokenizer

WORDS = ["<unk>", "<s>", "</s>", *(chr(code) for code in range(33, 127)), "Ġ", "Ċ", "ab"]
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
def cache(tmp_path, monkeypatch):
    """Where converted models are kept in a test."""
    monkeypatch.setenv("SPECGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def gguf_file(tmp_path, cache, original):
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


def contents(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_gguf_file_becomes_a_folder_of_the_same_weights(gguf_file, original):
    loaded = AutoModelForCausalLM.from_pretrained(folder_of(LocalBase(path=str(gguf_file)))).eval()
    assert loaded.state_dict().keys() == original.state_dict().keys()
    for name, tensor in original.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    ids = torch.arange(10)[None]
    torch.testing.assert_close(loaded(ids).logits, original(ids).logits, atol=1e-5, rtol=1e-5)


def test_a_gguf_file_is_converted_once(gguf_file, cache):
    folder = folder_of(LocalBase(path=str(gguf_file)))
    before = contents(cache)
    assert folder_of(LocalBase(path=str(gguf_file))) == folder
    assert contents(cache) == before
    assert list(cache.iterdir()) == [folder]


def test_a_changed_gguf_file_is_converted_again(gguf_file, cache):
    first = folder_of(LocalBase(path=str(gguf_file)))
    gguf_file.touch()
    assert folder_of(LocalBase(path=str(gguf_file))) != first
    assert len(list(cache.iterdir())) == 2


def test_a_conversion_that_was_begun_in_another_process_is_waited_for(gguf_file, cache, capfd):
    base = LocalBase(path=str(gguf_file))
    begin_conversion(base)
    begin_conversion(base)
    folder = folder_of(base)
    begin_conversion(base)
    assert capfd.readouterr().out == f"base     tiny.gguf becomes a Hugging Face folder, once: {folder}\n"
    assert list(cache.iterdir()) == [folder]


def test_the_tokenizer_is_the_same_before_and_after_conversion(gguf_file):
    base = LocalBase(path=str(gguf_file))
    model = ModelConfig(
        base=base, dtype="float32", attention="auto", quantization=None, trust_remote_code=False, from_run=None, vision=None
    )
    template = TemplateConfig(name="inline", jinja="{{ messages }}", stop=())
    assert not has_tokenizer(base)
    before = load_tokenizer(model, template)
    assert has_tokenizer(base)
    folder_of(base)
    after = load_tokenizer(model, template)
    text = "abc </s>\nd"
    assert before(text)["input_ids"] == after(text)["input_ids"]
    assert before.get_vocab() == after.get_vocab()
    assert (before.bos_token_id, before.eos_token_id, before.pad_token_id) == (after.bos_token_id, after.eos_token_id, after.pad_token_id)


def test_a_conversion_that_fails_leaves_nothing_behind(gguf_file, cache):
    gguf_file.write_bytes(gguf_file.read_bytes()[:-20_000])
    with pytest.raises(Exception, match=r".+"):
        folder_of(LocalBase(path=str(gguf_file)))
    assert list(cache.glob("*")) == []


def test_a_conversion_that_another_process_did_meanwhile_is_not_done_again(gguf_file, cache, monkeypatch):
    @contextmanager
    def waits(file):
        converting.cached(file).mkdir(parents=True)
        yield

    monkeypatch.setattr(converting, "one_at_a_time", waits)
    monkeypatch.setattr(converting, "convert", lambda *_: pytest.fail("converts once more"))
    assert converting.converted(gguf_file) == converting.cached(gguf_file)


CONVERTS_FOR_LONG = """
import sys, time
from pathlib import Path
from runtime.models import gguf
from runtime.cache import whole

def write(folder):
    (folder / "model.safetensors").write_text("half")
    print("writes", flush=True)
    time.sleep(600)

gguf.convert = lambda _file, target: whole(target, write)
gguf.main(Path(sys.argv[1]))
"""


def test_a_conversion_that_nobody_waits_for_leaves_nothing_half_written(gguf_file, cache):
    words = [sys.executable, "-c", CONVERTS_FOR_LONG, gguf_file]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with converting.conversions_end():
        converting._begun[converting.cached(gguf_file)] = process
        assert process.stdout.readline() == b"writes\n"
        assert len(list(cache.glob(".partial-*"))) == 1
    assert (process.returncode, process.stderr.read()) == (128 + signal.SIGTERM, b"")
    assert list(cache.iterdir()) == []


def test_ctrl_c_does_not_reach_a_conversion_by_itself(gguf_file, cache):
    with converting.conversions_end():
        converting.begin(gguf_file)
        (process,) = converting._begun.values()
        assert os.getsid(process.pid) == process.pid != os.getsid(0)
