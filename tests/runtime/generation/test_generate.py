"""runtime/generation/generate.py: streamed text without half characters or parts of a stop text; answers with the chat's settings."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from runtime.config import ChatConfig
from runtime.generation.generate import Generator, TextStream, generation_config
from runtime.tokens.chat_template import ANSWERS, ChatFormat

GREEDY = {"system": None, "max_new_tokens": 12, "temperature": 0.0, "top_k": 50, "top_p": 0.95, "repetition_penalty": 1.0}
CHAT = ChatConfig(**GREEDY, seed=0, stop=(), plugins=())
QUESTION = [{"role": "user", "content": "Who are you?"}]
NEWLINE, END_OF_TURN = 198, 2
REPLACEMENT = "\ufffd"


@pytest.fixture(scope="module")
def o25(case_file):
    return json.loads(case_file("o25.json").read_text(encoding="utf-8"))


def streamed(tokenizer, ids, stop=()):
    stream = TextStream(tokenizer, tuple(stop))
    return [*(stream.feed(token) for token in ids), stream.flush()]


def test_characters_over_several_tokens_come_whole(tokenizer, o25):
    pieces = streamed(tokenizer, o25["token_ids"])
    assert "".join(pieces) == o25["text"]
    assert not any(REPLACEMENT in piece for piece in pieces)
    assert pieces == ["I", " like", " 🙂", " and", "", "", " 漢", "字", ".", " END", ".", " More", ""]


def test_a_stop_text_is_never_shown_in_part(tokenizer, o25):
    pieces = streamed(tokenizer, o25["token_ids"], o25["stop"])
    assert "".join(pieces) == "I like 🙂 and 漢字. "
    assert not any("E" in piece for piece in pieces)


def test_half_a_character_at_the_end_is_dropped(tokenizer, o25):
    assert streamed(tokenizer, o25["token_ids"][:6]) == ["I", " like", " 🙂", " and", "", "", ""]


def test_text_that_only_begins_like_a_stop_text_is_shown_in_the_end(tokenizer):
    ids = tokenizer(" THE EN")["input_ids"]
    pieces = streamed(tokenizer, ids, ["ENDING"])
    assert "".join(pieces) == " THE EN"
    assert pieces[-1] == "EN"


def test_special_tokens_are_not_shown(tokenizer):
    assert "".join(streamed(tokenizer, [*tokenizer("Hello")["input_ids"], END_OF_TURN])) == "Hello"


def first_stop(text, stop):
    """Where a text ends that is shown up to the stop text that is complete first; of those that end together, the longest."""
    found = [(at + len(word), at) for word in stop if (at := text.find(word)) >= 0]
    return min(found)[1] if found else len(text)


WORDS = st.lists(st.text("aE .漢🙂", min_size=1, max_size=4), max_size=3)


@settings(max_examples=200, deadline=None)
@given(text=st.text("aE .漢🙂", max_size=30), stop=WORDS)
@example(text="a END of", stop=["END", " END o"])
@example(text=" like", stop=[" like", "ik"])  # one token
def test_pieces_together_are_the_text_up_to_the_first_stop_text(tokenizer, text, stop):
    pieces = streamed(tokenizer, tokenizer(text)["input_ids"], stop)
    assert "".join(pieces) == text[: first_stop(text, stop)]
    assert not any(REPLACEMENT in piece for piece in pieces)


@settings(max_examples=60, deadline=None)
@given(text=st.text("ab 1\n\t.,'<|>é漢🙂\u200d", max_size=20))
def test_any_text_comes_out_as_it_went_in(tokenizer, text):
    assert "".join(streamed(tokenizer, tokenizer(text)["input_ids"])) == text


@pytest.fixture
def scripted(tokenizer):
    """Makes a model that says one text to everything, a Llama without layers: each token's embedding points to the next."""

    def made(ids):
        chain = [NEWLINE, *ids]  # a prompt ends with the newline after 'assistant'
        assert len(set(chain)) == len(chain) <= 32
        sizes = {"hidden_size": 32, "intermediate_size": 1, "num_hidden_layers": 0, "num_attention_heads": 1}
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=False, eos_token_id=END_OF_TURN, **sizes))
        with torch.no_grad():
            for weights in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
                weights.zero_()
            for place, (token, following) in enumerate(itertools.pairwise(chain)):
                model.get_input_embeddings().weight[token, place] = 1
                model.get_output_embeddings().weight[following, place] = 1
        return model.eval()

    return made


@pytest.fixture
def generator(tokenizer):
    return lambda **changed: Generator(tokenizer, ChatFormat(tokenizer, system=None), replace(CHAT, **changed))


def test_an_answer_ends_at_the_end_of_turn(tokenizer, scripted, generator):
    ids = tokenizer("I am Quill.")["input_ids"]
    answer = generator().answer(scripted([*ids, END_OF_TURN]), QUESTION)
    assert (answer.text, answer.stopped, answer.tokens) == ("I am Quill.", True, len(ids) + 1)


def test_an_answer_ends_at_a_stop_text_over_several_tokens(tokenizer, scripted, generator):
    ids = tokenizer("漢字 END. More")["input_ids"]
    shown = []
    answer = generator(stop=("END.",)).answer(scripted([*ids, END_OF_TURN]), QUESTION, show=shown.append)
    assert (answer.text, answer.stopped, answer.tokens) == ("漢字 ", True, len(ids) - 1)
    assert "".join(shown) == answer.text


def test_a_cut_answer_has_not_stopped(tokenizer, scripted, generator):
    ids = tokenizer(" one two three four")["input_ids"]
    model = scripted([*ids, END_OF_TURN])
    for options, settings_ in (({"max_new_tokens": 3}, {}), ({}, {"max_new_tokens": 3})):
        answer = generator(**settings_).answer(model, QUESTION, **options)
        assert (answer.text, answer.stopped, answer.tokens) == (" one two three", False, 3)


def test_the_end_of_turn_on_the_last_allowed_token_counts_as_stopped(tokenizer, scripted, generator):
    ids = tokenizer(" one two")["input_ids"]
    answer = generator(max_new_tokens=3).answer(scripted([*ids, END_OF_TURN]), QUESTION)
    assert (answer.text, answer.stopped) == (" one two", True)


def test_the_same_seed_gives_the_same_text_and_another_seed_another(tiny_model, generator):
    texts = [generator(temperature=1.5, top_k=0, top_p=1.0, seed=seed).answer(tiny_model, QUESTION).text for seed in (3, 3, 4)]
    assert texts[0] == texts[1] != texts[2]


def test_greedy_answers_are_the_same_whatever_the_seed(tiny_model, generator):
    assert len({generator(seed=seed).answer(tiny_model, QUESTION).text for seed in (1, 2)}) == 1


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_the_settings_pass_transformers_strict_check(tokenizer, tiny_model, temperature):
    chat_format = ChatFormat(tokenizer, system=None)
    made = generation_config(replace(CHAT, temperature=temperature), tokenizer, chat_format, tiny_model.generation_config)
    made.validate(strict=True)
    assert (made.do_sample, made.temperature) == ((True, 0.7) if temperature else (False, None))
    assert made.eos_token_id == [END_OF_TURN]


def test_generation_stops_at_the_models_own_ends_too(tokenizer, tiny_model):
    tiny_model.generation_config = GenerationConfig(eos_token_id=[5, 7])
    made = generation_config(CHAT, tokenizer, ChatFormat(tokenizer, system=None), tiny_model.generation_config)
    assert made.eos_token_id == [END_OF_TURN, 5, 7]


def test_an_answer_ends_at_a_stop_text_of_the_template(tokenizer, scripted):
    ids = tokenizer("Done.<eoc> More")["input_ids"]
    form = ChatFormat(tokenizer, system=None, masks=replace(ANSWERS, stop=("<eoc>", "<eom>")))
    answer = Generator(tokenizer, form, CHAT).answer(scripted([*ids, END_OF_TURN]), QUESTION)
    assert (answer.text, answer.stopped) == ("Done.", True)
