"""runtime/talking/talker.py: a loaded model that answers, for the chat, the page and the server."""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from conversations.templates import library
from runtime.talking.talker import START, Loading, of_folder, of_run

QUESTION = [{"role": "user", "content": "Count 2."}]


def turn(number):
    return [{"role": "user", "content": f"Question {number}: " + "word " * 40}, {"role": "assistant", "content": f"Answer {number}."}]


@pytest.fixture(scope="module")
def talker(finished):
    build, run = finished
    return of_run(build, run.parent, "spec.yaml", Loading())


@pytest.fixture(scope="module")
def with_adapter(finished):
    build, run = finished
    return of_run(build, run.parent, "spec.yaml", Loading(adapter=run / "convert"))


def test_the_merged_model_of_a_run_answers_as_transformers_does(talker, finished):
    merged = finished[1] / "merge"
    tokenizer, model = AutoTokenizer.from_pretrained(merged), AutoModelForCausalLM.from_pretrained(merged)
    prompt = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    expected = model.generate(**prompt, do_sample=False, max_new_tokens=6)[0, prompt["input_ids"].shape[1] :]
    answer = talker.answer(QUESTION)
    assert answer.raw == tokenizer.decode(expected)
    assert (answer.tokens, answer.prompt_tokens) == (len(expected), prompt["input_ids"].shape[1])


def test_a_system_text_stands_in_front_unless_the_conversation_has_one(talker):
    own = [{"role": "system", "content": "Be brief."}, *QUESTION]
    chat = replace(talker.chat, system="Be brief.")
    assert talker.answer(QUESTION, chat=chat).prompt_tokens == talker.answer(own).prompt_tokens
    assert talker.answer(own, chat=replace(chat, system="Another one.")).prompt_tokens == talker.answer(own).prompt_tokens


def test_a_run_without_a_model_is_told(tmp_path, finished, fault_of):
    told = fault_of(of_run, finished[0], tmp_path, "spec.yaml", Loading())
    assert told == f"error SG461: there is no model in {tmp_path / 'tiny'} yet\n  hint: make it: specgen run spec.yaml"


def test_an_answer_ends_after_the_token_at_which_it_is_cancelled(talker):
    stop, shown = threading.Event(), []

    def show(piece):
        shown.append(piece)
        stop.set()

    answer = talker.answer(QUESTION, show=show, stop=stop)
    assert (answer.cancelled, answer.stopped) == (True, False)
    assert answer.tokens < talker.answer(QUESTION).tokens
    assert "".join(shown) == answer.text


def test_answers_of_several_threads_are_those_of_one(talker):
    chats = [replace(talker.chat, temperature=1.0, seed=seed) for seed in range(4)]
    alone = [talker.answer(QUESTION, chat=chat).text for chat in chats]
    together = [""] * 4

    def ask(place):
        together[place] = talker.answer(QUESTION, chat=chats[place]).text

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


def test_the_base_answers_where_the_adapter_is_left_out(with_adapter, finished, tiny_base):
    trained = with_adapter.answer(QUESTION)
    alone = of_folder(tiny_base, Loading()).answer(QUESTION, chat=with_adapter.chat)
    merged = of_folder(finished[1] / "merge", Loading()).answer(QUESTION, chat=with_adapter.chat)
    assert with_adapter.answer(QUESTION, base=True).raw == alone.raw != trained.raw == merged.raw


def test_a_model_without_an_adapter_has_none_to_leave_out(talker, fault_of):
    told = fault_of(talker.answer, QUESTION, base=True)
    assert told == "error SG665: tiny has no adapter that could be left out\n  hint: give one with --adapter"


def test_the_oldest_turns_go_whole_and_the_system_text_stays(talker):
    messages = [{"role": "system", "content": "Be brief."}, *(message for number in range(12) for message in turn(number)), *QUESTION]
    fitted, dropped = talker.fitted(messages)
    assert 0 < dropped < 12
    assert fitted == [messages[0], *messages[1 + 2 * dropped :]]
    limit = talker.context - talker.chat.max_new_tokens
    assert len(talker.form.prompt_ids(fitted)) <= limit < len(talker.form.prompt_ids([messages[0], *messages[2 * dropped - 1 :]]))


def test_a_conversation_that_fits_stays_as_it_is(talker):
    messages = [*turn(1), *QUESTION]
    assert talker.fitted(messages) == (messages, 0)


def test_a_question_longer_than_the_context_is_refused(talker, fault_of):
    messages = [{"role": "user", "content": "word " * 600}]
    assert talker.fitted([*turn(1), *messages]) == (messages, 1)
    number = len(talker.form.prompt_ids(messages))
    assert fault_of(talker.answer, messages) == (
        f"error SG664: the conversation has {number} tokens, and the model's context holds 512 with the answer\n"
        "  hint: leave something out, or begin anew"
    )


def test_an_answer_ends_where_the_context_does(talker):
    messages = [{"role": "user", "content": "word " * 440}]
    answer = talker.answer(messages, chat=replace(talker.chat, max_new_tokens=2048))
    assert answer.stopped or answer.prompt_tokens + answer.tokens == talker.context


@pytest.fixture
def folder(tmp_path, tiny_base):
    return Path(shutil.copytree(tiny_base, tmp_path / "model"))


def test_a_folder_starts_with_its_own_settings(folder):
    own = {"do_sample": True, "temperature": 0.3, "top_k": 7, "repetition_penalty": 1.2, "eos_token_id": 2}
    (folder / "generation_config.json").write_text(json.dumps(own))
    assert of_folder(folder, Loading()).chat == replace(START, temperature=0.3, top_k=7, repetition_penalty=1.2)
    (folder / "generation_config.json").unlink()
    assert of_folder(folder, Loading()).chat == START


def test_a_folder_without_settings_starts_with_transformers_values():
    theirs = GenerationConfig._get_default_generation_params()
    assert not theirs["do_sample"]
    assert [getattr(START, name) for name in ("top_k", "top_p", "repetition_penalty")] == [
        theirs[name] for name in ("top_k", "top_p", "repetition_penalty")
    ]


def test_a_named_template_takes_the_place_of_the_folders_own(folder):
    own, named = of_folder(folder, Loading()), of_folder(folder, Loading(), "moss_sft")
    assert own.form.render(QUESTION, prompt=True) != named.form.render(QUESTION, prompt=True)
    assert named.form.masks.stop == library()["moss_sft"].stop == ("<eoc>", "<eom>")


def test_an_unknown_template_is_named_with_the_nearest(folder, fault_of):
    assert fault_of(of_folder, folder, Loading(), "mos_sft") == (
        "error SG201: there is no chat template mos_sft\n  hint: did you mean 'moss_sft'?"
    )


def test_a_folder_without_a_chat_template_continues_text(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = None
    for file in (*folder.glob("*token*"), *folder.glob("*.jinja")):
        file.unlink()
    tokenizer.save_pretrained(folder)
    talker = of_folder(folder, Loading())
    assert not talker.has_turns
    chat = replace(talker.chat, system="Be brief.", max_new_tokens=3)
    assert talker.answer(QUESTION, chat=chat).prompt_tokens == len(tokenizer("Count 2.")["input_ids"])


def test_folders_without_a_model_are_told(tmp_path, finished, folder, fault_of):
    adapter = finished[1] / "convert"
    assert fault_of(of_folder, tmp_path / "none", Loading()) == (
        f"error SG663: {tmp_path / 'none'} holds no model: it has no config.json\n  hint: give a folder in Hugging Face's form, or a spec"
    )
    assert fault_of(of_folder, adapter, Loading()) == (
        f"error SG663: {adapter} holds no model: it has no config.json\n"
        f"  hint: it holds an adapter: specgen chat BASE_MODEL --adapter {adapter}"
    )
    assert fault_of(of_folder, folder, Loading(adapter=tmp_path)).startswith(
        f"error SG663: {tmp_path} holds no adapter: it has no adapter_config.json"
    )
    (folder / "model.safetensors").write_bytes(b"no tensors")
    told = fault_of(of_folder, folder, Loading())
    assert told.startswith(f"error SG663: the model in {folder} cannot be read: ")


@pytest.mark.parametrize(("named", "dtype"), [("fp16", torch.float16), ("bfloat16", torch.bfloat16), ("auto", torch.float32)])
def test_the_dtype_goes_by_xtuners_names_too(folder, named, dtype):
    assert of_folder(folder, Loading(dtype=named)).model.dtype == dtype


@pytest.mark.parametrize(("bits", "layer"), [(4, "Linear4bit"), (8, "Linear8bitLt")])
def test_a_model_is_loaded_in_few_bits_and_takes_an_adapter(tiny_base, finished, bits, layer):
    talker = of_folder(tiny_base, Loading(bits=bits, adapter=finished[1] / "convert", device="cpu"))
    assert isinstance(talker.model, PeftModel)
    projection = talker.model.base_model.model.model.layers[0].self_attn.q_proj
    assert type(projection.base_layer).__name__ == layer
    assert talker.answer(QUESTION, chat=replace(talker.chat, max_new_tokens=2)).tokens == 2


def test_what_memory_does_not_hold_goes_to_the_offload_folder(tiny_base, tmp_path, monkeypatch):
    expected = of_folder(tiny_base, Loading(device="cpu")).answer(QUESTION, chat=replace(START, max_new_tokens=3))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=8 * 10**6))  # one of two matrices of 6 MB
    talker = of_folder(tiny_base, Loading(offload_folder=tmp_path / "offload", device="cpu"))
    assert "disk" in talker.model.hf_device_map.values()
    assert talker.answer(QUESTION, chat=replace(START, max_new_tokens=3)).raw == expected.raw


def test_an_adapter_for_another_base_is_told(finished, saved_llama, tmp_path, fault_of):
    big, adapter = saved_llama(tmp_path / "big", hidden_size=64), finished[1] / "convert"
    told = fault_of(of_folder, big, Loading(adapter=adapter))
    assert told.startswith(f"error SG442: the adapter in {adapter} does not fit the base model: size mismatch for ")
    assert len(told.splitlines()) == 1


def test_a_model_without_one_of_its_weights_is_told(tiny_base, tmp_path, fault_of):
    folder = shutil.copytree(tiny_base, tmp_path / "part")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.down_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    hint = "\n  hint: give a folder with all weights of the model"
    assert fault_of(of_folder, folder, Loading()) == f"error SG663: the model in {folder} has no model.layers.1.mlp.down_proj.weight{hint}"
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "has no model.layers.1.mlp.down_proj.weight, nor 1 more\n" in fault_of(of_folder, folder, Loading())


def test_weights_of_another_size_than_the_settings_are_told(tiny_base, tmp_path, fault_of):
    folder = shutil.copytree(tiny_base, tmp_path / "other")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "hidden_size": 64}))
    assert fault_of(of_folder, folder, Loading()).startswith(f"error SG663: the model in {folder} cannot be read: ")
