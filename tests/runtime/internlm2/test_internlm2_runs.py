"""Runs on a tiny InternLM2 with the published tokenizer: trained as a Llama, written in either layout, and what is written answers."""

from __future__ import annotations

import builtins
import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoTokenizer

from runtime import config as configs
from runtime.config import Config
from runtime.conversion.layout import require_layout
from runtime.internlm2.folders import readable
from runtime.measure.__main__ import base_config
from runtime.models.base import has_tokenizer
from runtime.stages import read_stage
from runtime.talking.talker import Loading, of_folder, of_run
from specgen import folder as compiled_folder
from specgen.compiler import compile_spec
from tests.runtime.conftest import laid_over
from tests.support.internlm2 import QUESTION, SENTENCE, write_internlm2, write_twin

LORA = {"lora": {"r": 4, "alpha": 8, "targets": ["q_proj", "v_proj", "down_proj"]}}
ORIGINAL = {"merged": {"dtype": "float32", "layout": "original"}}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SPECGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        patched.setattr(builtins, "input", lambda *_: pytest.fail("it asks whether to run code"))
        yield


@pytest.fixture(scope="module")
def internlm2(tmp_path_factory):
    """The folder of a random InternLM2 of one layer."""
    return write_internlm2(tmp_path_factory.mktemp("base") / "internlm2-tiny", hidden_size=16, intermediate_size=32, num_hidden_layers=1)


@pytest.fixture(scope="module")
def run_of(tmp_path_factory, internlm2, compiled, carried_out):
    """A compiled folder and its run, all stages done."""

    def carry_out(**overrides):
        folder = tmp_path_factory.mktemp("run")
        given = {"model": {"base": str(internlm2)}, "template": "internlm2_chat", "data": {"max_length": 64}, "train": {"epochs": 1}}
        build = compiled(folder, **laid_over(given, overrides))
        return build, carried_out(build, folder / "runs")

    return carry_out


@pytest.fixture(scope="module")
def as_original(run_of):
    return run_of(adapter=LORA, export=ORIGINAL)


def test_a_run_writes_internlm2_again(as_original, internlm2):
    merge = as_original[1] / "merge"
    settings = json.loads((merge / "config.json").read_text())
    assert settings == json.loads((internlm2 / "config.json").read_text())
    names = {file.name for file in merge.iterdir()}
    assert names >= {"tokenizer.model", "tokenizer_config.json", "modeling_internlm2.py", "README.md", "merged.json"}
    before, after = load_file(internlm2 / "model.safetensors"), load_file(merge / "model.safetensors")
    changed = {name for name, tensor in after.items() if not torch.equal(before[name], tensor)}
    assert changed == {"model.layers.0.attention.wqkv.weight", "model.layers.0.feed_forward.w2.weight"}
    figures = read_stage(as_original[1], "merge")["summary"]
    assert figures["distance"] <= figures["limit"], "read back from disk it is base + adapter"


def test_keys_are_as_they_were_where_only_queries_and_values_are_adapted(as_original, internlm2):
    name = "model.layers.0.attention.wqkv.weight"
    before, after = (load_file(folder / "model.safetensors")[name].view(2, 4, 4, 16) for folder in (internlm2, as_original[1] / "merge"))
    assert torch.equal(before[:, 2], after[:, 2])
    assert not torch.equal(before[:, 3], after[:, 3])


def test_the_template_of_the_run_goes_with_the_original_layout(as_original, internlm2):
    settings = json.loads((as_original[1] / "merge/tokenizer_config.json").read_text())
    assert "<|im_start|>" in settings["chat_template"]
    assert "generation %}" not in settings["chat_template"]
    assert settings["tokenizer_class"] == "InternLM2Tokenizer"
    tokenizer = AutoTokenizer.from_pretrained(readable(as_original[1] / "merge"))
    assert tokenizer.chat_template == settings["chat_template"]


def test_the_merged_model_of_such_a_run_answers(as_original):
    build, run = as_original
    talker = of_run(build, run.parent, "spec.yaml", Loading())
    answer = talker.answer([{"role": "user", "content": "Count 1."}])
    transcript = read_stage(run, "smoke")["summary"]["transcript"]
    assert answer.text == transcript[0]["answer"]


def test_a_run_without_the_key_writes_a_llama_with_the_same_numbers(run_of, as_original):
    _, run = run_of(adapter=LORA)
    assert AutoConfig.from_pretrained(run / "merge").model_type == "llama"
    assert [*(run / "merge").glob("*.py")] == []
    assert "auto_map" not in json.loads((run / "merge/config.json").read_text())
    found, other = (load_file(folder / "model.safetensors") for folder in (run / "merge", readable(as_original[1] / "merge")))
    assert found.keys() == other.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in other.items())
    tokenizer = AutoTokenizer.from_pretrained(run / "merge")
    assert tokenizer("<|im_start|>user", add_special_tokens=False)["input_ids"] == [92543, 1008]


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)], ids=["alone", "ZeRO-3"])
def test_all_weights_may_be_trained_and_written_as_internlm2(run_of, internlm2, processes):
    train = {"max_steps": 2, "batch_size": 4, "micro_batch_size": 2, "learning_rate": 1.0e-3}
    distributed = {"processes_per_node": processes, "zero_stage": 3 if processes > 1 else 0}
    _, run = run_of(adapter=None, export=ORIGINAL, train=train, distributed=distributed)
    before, after = load_file(internlm2 / "model.safetensors"), load_file(run / "merge/model.safetensors")
    assert before.keys() == after.keys()
    assert not torch.equal(before["model.layers.0.attention.wqkv.weight"], after["model.layers.0.attention.wqkv.weight"])
    assert json.loads((run / "merge/config.json").read_text())["model_type"] == "internlm2"


def test_a_folder_of_internlm2_is_talked_to(internlm2):
    talker = of_folder(internlm2, Loading(dtype="fp32"))
    answer = talker.answer([{"role": "user", "content": "你是谁"}], chat=replace(talker.chat, max_new_tokens=3))
    assert (talker.name, talker.has_turns, answer.tokens) == ("internlm2-tiny", True, 3)
    # <s><|im_start|>user, a line break, the question<|im_end|>, a line break, <|im_start|>assistant, a line break
    assert talker.form.prompt_ids([{"role": "user", "content": "hi"}]) == [1, 92543, 1008, 364, 6176, 92542, 364, 92543, 525, 11353, 364]


def test_the_memory_of_a_step_is_measured_without_its_own_code(as_original):
    config = configs.load(as_original[0])
    assert has_tokenizer(config.model.base)
    settings = base_config(config, None)
    assert (settings.model_type, settings.num_key_value_heads, settings.rope_parameters["rope_type"]) == ("llama", 2, "dynamic")


def test_another_base_has_no_original_layout(tiny_base, configured, tmp_path, fault_of):
    config: Config = configured(tmp_path)
    hint = "  hint: leave out layout: every other model is written in its own"
    message = f"error SG644: the original layout is InternLM2's, and the base model in {tiny_base} is another\n{hint}"
    assert fault_of(require_layout, "original", config.model.base) == message


@pytest.mark.parametrize("quantization", [{"nf4": {"double_quant": True, "compute_dtype": "float32"}}, {"int8": {}}], ids=["nf4", "int8"])
def test_the_lesson_in_4_and_8_bits_is_merged_into_the_weights_that_were_trained_on(tmp_path, carried_out, quantization):
    """The lesson's spec; a random model is not as it was once it is rounded, so that the base of the merge has to be the rounded one."""
    spec = write_twin(tmp_path, model={"dtype": "float32", "quantization": quantization})
    compiled_folder.write(compile_spec(spec).files, tmp_path / "build")
    run = carried_out(tmp_path / "build", tmp_path / "runs")
    figures = read_stage(run, "merge")["summary"]
    assert (figures["base"], figures["distance"] <= figures["limit"] < 1e-3) == ("dequantized", True)
    assert figures["distance_to_trained"] < 0.1
    (asked,) = read_stage(run, "smoke")["summary"]["transcript"]
    assert (asked["user"], asked["answer"], asked["stopped"]) == (QUESTION, SENTENCE, True)
