"""runtime/exports/gguf_*.py: the files, read back by transformers' own loader and by the gguf package."""

from __future__ import annotations

import pytest
import torch
from gguf import GGUFReader, GGUFWriter
from gguf.quants import dequantize
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    Phi3Config,
)

from conversations.llama_cpp import ARCHITECTURES, SPLITS
from runtime.exports.gguf_file import write_gguf
from runtime.exports.gguf_model import architecture_of
from runtime.exports.gguf_tokens import tokens_of
from runtime.tokens.chat_template import ChatFormat
from tests.runtime.small_models import SIZES, in_float16, small_model
from tests.runtime.small_tokenizers import CHATML, TEXTS, small_tokenizer

IDS = torch.arange(3, 40)[None]


def written(model, tokenizer, folder, kind="f16", **about):
    """A model and its tokenizer, saved and written as a GGUF file; returns that."""
    model.save_pretrained(folder / "merged")
    form = ChatFormat(tokenizer, system=None)
    file = folder / f"small.{kind}.gguf"
    off = write_gguf(folder / "merged", file, kind=kind, name="small", about=about, settings=model.config, tokenizer=tokenizer, form=form)
    return file, off


def reloaded(file, model):
    """The file by transformers' loader. Of Qwen3 and Gemma that reads sizes in part: they are given."""
    given = {} if model.config.model_type in ("llama", "mistral", "qwen2") else {"config": model.config}
    return AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32, **given).eval()


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text"])
def test_transformers_reads_the_file_as_the_same_model(tmp_path, kind):
    model = small_model(kind)
    file, off = written(model, small_tokenizer("gpt-2"), tmp_path)
    assert off < 2**-11
    loaded = reloaded(file, model)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, atol=2**-11, rtol=2**-11)
    assert (loaded(IDS).logits - in_float16(model)(IDS).logits).abs().max() < 1e-5


def test_every_model_type_that_is_offered_is_tested():
    assert set(SIZES) == set(ARCHITECTURES)


def test_q8_0_is_off_by_half_a_step_of_its_scale(tmp_path):
    model = small_model("llama")
    file, off = written(model, small_tokenizer("gpt-2"), tmp_path, kind="q8_0")
    assert 0.001 < off <= 0.5 / 127 + 2**-11
    stored = {tensor.name: tensor for tensor in GGUFReader(file).tensors}
    embedding = stored["token_embd.weight"]
    assert embedding.tensor_type.name == "Q8_0"
    assert stored["output_norm.weight"].tensor_type.name == "F32"
    read = torch.from_numpy(dequantize(embedding.data, embedding.tensor_type).copy())
    wanted = model.model.embed_tokens.weight.detach()
    steps = wanted.reshape(len(wanted), -1, 32).abs().amax(-1) / 127
    assert ((read - wanted).abs().reshape(len(wanted), -1, 32) <= (0.5 + 127 * 2**-11) * steps[..., None] + 1e-6).all()


@pytest.mark.parametrize("split", [*SPLITS, "llama"])
def test_the_tokenizer_goes_along(tmp_path, split):
    tokenizer = small_tokenizer(split, begins=True)
    file, _ = written(small_model("llama"), tokenizer, tmp_path, license="apache-2.0")
    fields = {name: field.contents() for name, field in GGUFReader(file).fields.items()}
    assert fields["tokenizer.ggml.model"] == ("llama" if split == "llama" else "gpt2")
    assert fields["tokenizer.ggml.pre"] == ("default" if split == "llama" else split)
    assert fields["tokenizer.chat_template"] == "{{ bos_token }}" + CHATML
    controls = {"bos": "<s>", "eos": "<|im_end|>", "eot": "<|im_end|>", "padding": "<|im_end|>"}
    for name, text in controls.items():
        assert fields[f"tokenizer.ggml.{name}_token_id"] == tokenizer.convert_tokens_to_ids(text)
    assert fields["tokenizer.ggml.add_bos_token"] is True
    assert fields["tokenizer.ggml.tokens"][: len(tokenizer)] == tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    assert fields["tokenizer.ggml.tokens"][-1] == "[PAD511]"  # rows of the embedding without a token
    assert fields["general.license"] == "apache-2.0"


def test_transformers_reads_the_same_tokenizer_back(tmp_path):
    """The loader knows the splitting of GPT-2 alone."""
    tokenizer = small_tokenizer("gpt-2")
    file, _ = written(small_model("llama"), tokenizer, tmp_path)
    read = AutoTokenizer.from_pretrained(tmp_path, gguf_file=file.name)
    assert read.chat_template == CHATML
    for text in TEXTS:
        assert read(text)["input_ids"] == tokenizer(text)["input_ids"]


def test_values_beyond_float16_are_refused(tmp_path, fault_of):
    model = small_model("llama")
    model.model.layers[0].mlp.up_proj.weight.data[0, 0] = 70_000
    assert fault_of(written, model, small_tokenizer("gpt-2"), tmp_path) == (
        "error SG478: model.layers.0.mlp.up_proj.weight has values beyond 65,504: float16 cannot hold them\n"
        "  hint: write export.gguf: {types: [q8_0]}"
    )


@pytest.mark.parametrize("kind", ["f16", "q8_0"])
def test_values_that_are_not_finite_are_refused_in_every_type_and_the_file_is_closed(tmp_path, fault_of, monkeypatch, kind):
    closed = []
    monkeypatch.setattr(GGUFWriter, "close", lambda writer, close=GGUFWriter.close: (close(writer), closed.append(writer.fout)))
    model = small_model("llama")
    model.model.layers[0].mlp.up_proj.weight.data[0, 0] = float("nan")
    assert fault_of(written, model, small_tokenizer("gpt-2"), tmp_path, kind=kind) == (
        "error SG478: model.layers.0.mlp.up_proj.weight has values that are not finite, which no type holds\n"
        "  hint: look at the losses of the run: a lower train.learning_rate is the usual cure"
    )
    assert closed == [None]


def test_an_added_token_beyond_the_embedding_is_left_out(tmp_path):
    tokenizer = small_tokenizer("gpt-2")
    tokenizer.add_tokens([f"<unused{number}>" for number in range(512 - len(tokenizer))])
    tokenizer.add_special_tokens({"pad_token": "<image_soft_token>"})
    assert tokenizer.pad_token_id == 512
    file, _ = written(small_model("llama"), tokenizer, tmp_path)
    fields = {name: field.contents() for name, field in GGUFReader(file).fields.items()}
    assert len(fields["tokenizer.ggml.tokens"]) == 512
    assert "<image_soft_token>" not in fields["tokenizer.ggml.tokens"]
    assert "tokenizer.ggml.padding_token_id" not in fields


def test_a_word_beyond_the_embedding_is_refused(fault_of):
    content = {"model": {"vocab": {"a": 0, "b": 2}}, "added_tokens": []}
    assert fault_of(tokens_of, content, 2, pieces=False) == (
        "error SG478: the tokenizer has the token 2, and the embedding of the model ends before 2\n  hint: leave out export.gguf"
    )


@pytest.mark.parametrize(("window", "context"), [(64, 64), (None, 256), (512, 256)])
def test_a_window_that_llama_cpp_does_not_know_of_bounds_the_context(tmp_path, window, context):
    file, _ = written(small_model("mistral", sliding_window=window), small_tokenizer("gpt-2"), tmp_path)
    assert GGUFReader(file).fields["llama.context_length"].contents() == context


@pytest.mark.parametrize(("kind", "name"), [("llama", "hidden_act"), ("gemma", "hidden_act"), ("gemma2", "hidden_activation")])
def test_another_activation_than_llama_cpp_has_is_refused(fault_of, kind, name):
    architecture_of(small_model(kind).config)
    assert fault_of(architecture_of, small_model(kind, **{name: "relu"}).config) == (
        "error SG478: llama.cpp computes the activation relu in another way than this model, so export.gguf is not written\n"
        "  hint: leave out export.gguf"
    )


def test_a_model_type_that_is_not_known_is_refused(fault_of):
    assert fault_of(architecture_of, Phi3Config()) == (
        "error SG478: export.gguf is not written for the model type phi3\n"
        "  hint: it is written for gemma, gemma2, gemma3_text, llama, mistral, qwen2, qwen3"
    )


def test_what_llama_cpp_computes_in_another_way_is_refused(fault_of):
    scaled = LlamaConfig(rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0})
    assert fault_of(architecture_of, scaled) == (
        "error SG478: llama.cpp computes rotary embeddings of the type dynamic in another way than this model,"
        " so export.gguf is not written\n  hint: leave out export.gguf"
    )


def test_a_tokenizer_that_splits_in_a_way_of_its_own_is_refused(tmp_path, fault_of):
    from tokenizers import pre_tokenizers

    tokenizer = small_tokenizer("gpt-2")
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    assert fault_of(written, small_model("llama"), tokenizer, tmp_path) == (
        "error SG478: llama.cpp has no tokenizer that splits texts as this model's does, so export.gguf cannot be written\n"
        "  hint: it knows gpt-2, llama-bpe, qwen2, smollm and SentencePiece; leave out export.gguf"
    )
