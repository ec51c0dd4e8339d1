"""GGUF files in llama.cpp itself, through llama-cpp-python: the same tokens, the same logits, the same answer. Slow: `make test-slow`
installs that package, which compiles for minutes."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from conversations.llama_cpp import SPLITS
from runtime.exports.gguf_file import write_gguf
from runtime.tokens.chat_template import ChatFormat
from tests.runtime.small_models import SIZES, small_model
from tests.runtime.small_tokenizers import TEXTS, small_tokenizer

pytestmark = pytest.mark.slow
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def llama():
    """Loads a file, quietly."""
    library = pytest.importorskip("llama_cpp", reason="no llama-cpp-python: make test-slow installs it")

    def load(file, **options):
        return library.Llama(str(file), n_ctx=256, n_threads=1, verbose=False, **options)

    return load


def saved(folder, model, tokenizer, kind="f16"):
    model.save_pretrained(folder / "merged")
    tokenizer.save_pretrained(folder / "merged")
    file = folder / "small.gguf"
    form = ChatFormat(tokenizer, system=None)
    write_gguf(folder / "merged", file, kind=kind, name="small", about={}, settings=model.config, tokenizer=tokenizer, form=form)
    return file


@pytest.mark.parametrize("kind", SIZES)
def test_llama_cpp_computes_the_same_logits(tmp_path, llama, kind):
    """llama.cpp multiplies in float16 where weights are: that is what it may be off."""
    model = small_model(kind)
    loaded = llama(saved(tmp_path, model, small_tokenizer("gpt-2")), logits_all=True)
    ids = list(range(3, 40))
    loaded.eval(ids)
    read = torch.from_numpy(np.array(loaded.scores[: len(ids)]))
    wanted = model(torch.tensor([ids])).logits[0]
    assert (read - wanted).abs().max() < 0.01 * wanted.std()


def test_llama_3s_rotary_embeddings_are_scaled_as_in_transformers(tmp_path, llama):
    rope = {"rope_type": "llama3", "rope_theta": 10_000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    model = small_model("llama", rope_parameters={**rope, "original_max_position_embeddings": 64})
    loaded = llama(saved(tmp_path, model, small_tokenizer("gpt-2")), logits_all=True)
    ids = [5 + index % 200 for index in range(200)]
    loaded.eval(ids)
    wanted = model(torch.tensor([ids])).logits[0]
    assert (torch.from_numpy(np.array(loaded.scores[: len(ids)])) - wanted).abs().max() < 0.01 * wanted.std()


@pytest.mark.parametrize("split", [*SPLITS, "llama"])
@pytest.mark.parametrize("begins", [False, True])
def test_llama_cpp_makes_the_same_tokens(tmp_path, llama, split, begins):
    tokenizer = small_tokenizer(split, begins=begins)
    loaded = llama(saved(tmp_path, small_model("llama"), tokenizer), vocab_only=True)
    for text in TEXTS:
        assert loaded.tokenize(text.encode(), add_bos=begins, special=True) == tokenizer(text)["input_ids"], text


def test_the_real_small_model_is_asked_through_its_chat_template(tmp_path, llama, smollm):
    """Greedy: what transformers answers."""
    tokenizer, model = AutoTokenizer.from_pretrained(smollm), AutoModelForCausalLM.from_pretrained(smollm)
    loaded = llama(saved(tmp_path, model, tokenizer))
    prompt = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_tensors="pt")
    output = model.generate(**prompt, max_new_tokens=24, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    wanted = tokenizer.decode(output, skip_special_tokens=True)
    answer = loaded.create_chat_completion(QUESTION, temperature=0.0, max_tokens=24, repeat_penalty=1.0)["choices"][0]
    assert answer["message"]["content"] == wanted == "The capital of France is Paris."
    assert answer["finish_reason"] == "stop"
    assert loaded.metadata["tokenizer.chat_template"] == tokenizer.chat_template
    assert loaded.token_eos() == tokenizer.eos_token_id


def test_eight_bits_are_near_the_real_small_model(tmp_path, llama, smollm):
    """llama.cpp rounds what it multiplies with to 8 bits, too: measured, 6 % of the spread of the logits."""
    tokenizer, model = AutoTokenizer.from_pretrained(smollm), AutoModelForCausalLM.from_pretrained(smollm, dtype=torch.float32)
    loaded = llama(saved(tmp_path, model, tokenizer, kind="q8_0"), logits_all=True)
    ids = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True)["input_ids"]
    loaded.eval(ids)
    with torch.inference_mode():
        wanted = model(torch.tensor([ids])).logits[0]
    difference = torch.from_numpy(np.array(loaded.scores[: len(ids)])) - wanted
    assert difference.square().mean().sqrt() < 0.1 * wanted.std()


def test_llama_quantize_makes_q4_k_m_of_a_run(tmp_path, llama, finished, configured):
    """With the tool itself, where it is installed."""
    if shutil.which("llama-quantize") is None:
        pytest.skip("no llama-quantize on PATH")
    from runtime.exports.stage import export

    config = configured(tmp_path, export={"gguf": {"types": ["q4_k_m"]}})
    (tmp_path / "out").mkdir()
    figures = export(config, finished[1], tmp_path / "out")
    assert [file["type"] for file in figures["gguf"]] == ["q4_k_m"]
    vocabulary = AutoTokenizer.from_pretrained(finished[1] / "merge").vocab_size
    assert llama(tmp_path / "out" / "gguf" / "tiny.q4_k_m.gguf").n_vocab() == vocabulary
