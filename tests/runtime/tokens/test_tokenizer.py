"""runtime/tokens/tokenizer.py: conversations begin as the tokenizer begins a text; what is exported renders in plain Jinja to the same."""

from __future__ import annotations

import json
import runpy
import sys
from dataclasses import replace

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from transformers import AutoTokenizer

from conversations.templates import library
from runtime.config import LocalBase, ModelConfig, TemplateConfig
from runtime.generation.generate import stop_ids
from runtime.models.model import load_tokenizer
from runtime.tokens.chat_template import ChatFormat, Masks
from runtime.tokens.tokenizer import save_tokenizer

MASKS = Masks(train_on="assistant", end_of_turn=True, unroll=False, stop=())
# XTuner 0.1.17, encode_fn with template internlm2_chat and InternLM2's own tokenizer: one BOS, <|im_end|> trained, no </s>
MESSAGES = [
    {"role": "system", "content": "You are X."},
    {"role": "user", "content": "你是谁"},
    {"role": "assistant", "content": "我是小助手"},
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "hello"},
]
INPUT_IDS = [
    *(1, 92543, 9081, 364, 2770, 657, 1746, 281, 92542, 364, 92543, 1008, 364, 70447, 61297, 92542, 364, 92543, 525, 11353, 364),
    *(68734, 60398, 72018, 92542, 364, 92543, 1008, 364, 6176, 92542, 364, 92543, 525, 11353, 364, 15115, 92542, 364),
]  # fmt: skip
TRAINED_IDS = [68734, 60398, 72018, 92542, 15115, 92542]


@pytest.fixture(scope="module")
def loaded():
    """The tokenizer of a folder with a template of the library, of a text, or its own."""

    def load(folder, name):
        model = ModelConfig(
            base=LocalBase(path=str(folder)),
            dtype="float32",
            attention="auto",
            quantization=None,
            trust_remote_code=False,
            from_run=None,
            vision=None,
        )
        found = library().get(name)
        jinja, stop = (found.jinja, found.stop) if found else (None if name == "tokenizer" else name, ())
        tokenizer = load_tokenizer(model, TemplateConfig(name=name, jinja=jinja, stop=stop))
        return tokenizer, ChatFormat(tokenizer, system=None, masks=replace(MASKS, stop=stop))

    return load


@pytest.fixture(scope="module")
def internlm2(root):
    return root / "tests/internlm2_tokenizer"


@pytest.fixture(scope="module")
def adds_bos(smollm, case_file, tmp_path_factory):
    """Case o11: a tokenizer that puts <|endoftext|> in front, whose template writes it, too."""
    out = tmp_path_factory.mktemp("o11")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["", str(smollm), str(out)])
        runpy.run_path(str(case_file("o11_make_tokenizer.py")))
    return out


@pytest.mark.parametrize("name", ["internlm2_chat", "internlm2", "internlm3", "chatml", "qwen_chat"])
def test_internlm2_gets_the_ids_and_labels_of_xtuner(loaded, internlm2, name):
    encoded = loaded(internlm2, name)[1].encode(MESSAGES)
    assert encoded.input_ids == INPUT_IDS
    assert [token for token, trained in zip(encoded.input_ids, encoded.trained, strict=True) if trained] == TRAINED_IDS


def test_a_template_without_an_end_of_its_own_begins_and_ends_each_turn(loaded, internlm2):
    tokenizer, form = loaded(internlm2, "default")
    encoded = form.encode(MESSAGES)
    assert (encoded.input_ids.count(1), encoded.input_ids.count(2)) == (2, 2)
    assert tokenizer.decode([token for token, trained in zip(encoded.input_ids, encoded.trained, strict=True) if trained]).endswith("</s>")


def test_o11_one_begin_of_text_in_training_and_in_chat(loaded, adds_bos, case, case_rows):
    (row,) = case_rows("o11.jsonl")
    for name in ("tokenizer", "chatml"):
        form = loaded(adds_bos, name)[1]
        encoded = form.encode(row)
        assert encoded.input_ids == case("o11")["training_input_ids"]
        assert form.prompt_ids(row[:-1]) == case("o11")["chat_prompt_ids"]
        ((start, end),) = case("o11")["trained_positions"]
        assert [index for index, trained in enumerate(encoded.trained) if trained] == list(range(start, end))


def test_a_tokenizer_that_adds_none_gets_none_from_the_library(loaded, smollm):
    for name in ("chatml", "internlm2_chat", "internlm2"):
        ids = loaded(smollm, name)[1].encode(MESSAGES).input_ids
        assert ids[:3] == [1, 9690, 198], name  # <|im_start|>, which is its bos_token, system and a line break


def test_smollms_own_template_is_chatml_with_a_system_text_of_its_own(loaded, smollm):
    own, chatml = (loaded(smollm, name)[1] for name in ("tokenizer", "chatml"))
    assert own.encode(MESSAGES) == chatml.encode(MESSAGES)
    default = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    assert own.encode(MESSAGES[1:]) == chatml.encode([{"role": "system", "content": default}, *MESSAGES[1:]])


@pytest.mark.parametrize("name", ["chatml", "internlm2_chat", "llama3", "default", "qwen3"])
def test_what_is_exported_has_no_marks_and_renders_in_plain_jinja_to_the_same(loaded, internlm2, tmp_path, name):
    tokenizer, form = loaded(internlm2, name)
    before = tokenizer.chat_template
    save_tokenizer(tokenizer, tmp_path)
    assert tokenizer.chat_template == before
    exported = AutoTokenizer.from_pretrained(tmp_path).chat_template
    assert "{% generation" not in exported and "{%- generation" not in exported
    plain = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(exported)
    names = tokenizer.special_tokens_map
    for messages, prompt in ((MESSAGES, False), (MESSAGES[:2], True)):
        assert plain.render(messages=messages, add_generation_prompt=prompt, **names) == form.render(messages, prompt=prompt)
    again = ChatFormat(AutoTokenizer.from_pretrained(tmp_path), system=None, masks=form.masks)
    assert again.prompt_ids(MESSAGES[:2]) == form.prompt_ids(MESSAGES[:2])


def test_several_templates_of_a_tokenizer_are_all_exported(loaded, internlm2, tmp_path):
    tokenizer, _ = loaded(internlm2, "chatml")
    tokenizer.chat_template = {"default": tokenizer.chat_template, "tool_use": tokenizer.chat_template}
    save_tokenizer(tokenizer, tmp_path)
    exported = AutoTokenizer.from_pretrained(tmp_path).chat_template
    assert set(exported) == {"default", "tool_use"}
    assert not any("{%- generation" in text for text in exported.values())


def test_generation_stops_on_stop_texts_that_are_tokens(loaded, smollm):
    tokenizer, form = loaded(smollm, "qwen_chat")  # <|im_end|> is 2, <|endoftext|> 0
    assert stop_ids(tokenizer, form, None) == [0, 2]
    tokenizer, form = loaded(smollm, "moss_sft")  # <eoc> and <eom> are no tokens here
    assert stop_ids(tokenizer, form, None) == [2]


def test_the_part_of_a_tokenizer_is_small(internlm2):
    assert len(json.loads((internlm2 / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]) < 200
