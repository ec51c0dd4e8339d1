"""Case o24 and its kind: whatever a base's generation_config.json says, the export's is strict, stops where it has to, and is greedy."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from runtime.generation.generate import generation_config
from runtime.tokens.text_format import row_format

KINDS = {
    "greedy with a temperature": {"do_sample": False, "temperature": 0.6, "top_p": 0.9},
    "sampling at temperature zero": {"do_sample": True, "temperature": 0.0},
    "beams that sample nothing": {"num_beams": 4, "early_stopping": True, "length_penalty": 0.6, "do_sample": False, "top_k": 3},
    "several ends": {"eos_token_id": [2, 7], "do_sample": True, "temperature": 0.7},
    "ends and no padding": {"eos_token_id": 7, "pad_token_id": None},
    "lengths that contradict": {"max_length": 20, "max_new_tokens": 4096, "min_length": 50},
    "assisted": {"prompt_lookup_num_tokens": 3, "use_cache": False},
    "penalties": {"repetition_penalty": 1.3, "no_repeat_ngram_size": 3},
}


@pytest.mark.parametrize("said", KINDS.values(), ids=KINDS)
def test_the_exports_settings_are_strict_and_keep_every_end(tmp_path, tiny_base, configured, said):
    base = shutil.copytree(tiny_base, tmp_path / "base")
    (base / "generation_config.json").write_text(json.dumps(said))
    config = configured(tmp_path / "spec")
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    settings = generation_config(config.chat, tokenizer, row_format(tokenizer, config, system=None), model.generation_config)
    settings.validate(strict=True)
    settings.save_pretrained(tmp_path / "out")
    read = GenerationConfig.from_pretrained(tmp_path / "out")
    read.validate(strict=True)
    ends = said.get("eos_token_id", 2)
    assert set(ends if isinstance(ends, list) else [ends]) | {2} == set(read.eos_token_id)
    assert (read.do_sample, read.temperature, read.num_beams, read.pad_token_id) == (False, None, None, 2)


def test_a_merged_folder_answers_twice_the_same_by_default(finished):
    folder = finished[1] / "merge"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": "Count 1."}], add_generation_prompt=True, return_tensors="pt")
    answers = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        answers.append(model.generate(**prompt)[0].tolist())
    assert answers[0] == answers[1]
    assert len(answers[0]) > prompt["input_ids"].shape[1]
