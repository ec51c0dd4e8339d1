"""Every shipped template, with random conversations and hostile ones: trained is what the assistant says with the end of its turn,
and what a chat gives the model is what stood before that in training."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken
from transformers import AutoTokenizer

from conversations.templates import library
from runtime.data.encode import Encoder
from runtime.data.lengths import Policy
from runtime.data.parts import Part
from runtime.faults import RunFault
from runtime.tokens.chat_template import ChatFormat, Masks
from runtime.tokens.vocabulary import vocabulary_of
from tests.rows import spans

CONTROL = re.compile(r"<\|?[a-zA-Z_▁|｜ ]+\|?>|</s>|<s>|\[/?INST\]|<[a-z_]+>|\[/?[A-Z_]+\]")
NAMES = tuple(library())
THOUGHTS = {"<think>", "</think>"}  # words of an answer
ALL_CONTROLS = sorted({text for template in library().values() for text in CONTROL.findall(template.jinja)} - THOUGHTS | {"<s>", "</s>"})


@pytest.fixture(scope="module")
def form_of(smollm):
    """A tokenizer and its chat format with a template of the library. It has the control tokens of all templates, or <s> and </s>
    alone, so that the others are text."""

    @cache
    def tokenizer(known):
        made = AutoTokenizer.from_pretrained(smollm)
        tokens = [AddedToken(text, special=True, normalized=False) for text in (ALL_CONTROLS if known else ["<s>", "</s>"])]
        made.add_special_tokens({"additional_special_tokens": tokens, "bos_token": "<s>", "eos_token": "</s>"})
        return made, vocabulary_of(made)

    @cache
    def made(name, known, train_on="assistant", end_of_turn=True):
        template, (own, vocabulary) = library()[name], tokenizer(known)
        masks = Masks(train_on=train_on, end_of_turn=end_of_turn, unroll=False, stop=(*template.stop, "</s>"))
        return own, ChatFormat(replace(vocabulary, templates={"default": template.jinja}), system=None, masks=masks)

    return made


def conversation(contents, system):
    turns = [{"role": ("user", "assistant")[index % 2], "content": content} for index, content in enumerate(contents)]
    return [{"role": "system", "content": system}, *turns] if system else turns


def check(name, tokenizer, form, messages):
    """All that is promised of a row."""
    encoded = form.encode(messages)
    said = [message["content"] for message in messages if message["role"] == "assistant"]
    found = [tokenizer.decode(encoded.input_ids[start:end]) for start, end in spans(encoded)]
    assert len(found) == len(said), name
    for text, words in zip(found, said, strict=True):
        assert text.endswith(form.end_text), (name, text)
        rest = text.removesuffix(form.end_text)
        assert rest.strip() == words.strip() or rest.replace("<think>\n\n</think>", "").strip() == words.strip(), (name, text, words)
    answers = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    for index, (start, _) in zip(answers, spans(encoded), strict=True):
        assert form.prompt_ids(messages[:index]) == encoded.input_ids[:start], name


def suits(name, messages):
    """Whether a template takes such a conversation: some have no system text, some rewrite earlier turns."""
    template, answers = library()[name], len(messages) - (messages[0]["role"] == "system")
    return not (template.system == "refused" and messages[0]["role"] == "system") and (answers == 2 or not template.rewrites_earlier_turns)


TEXTS = st.text("ab 1\n\t.,'<|>[]é漢🙂\u200d", min_size=1, max_size=12).filter(str.strip)


@pytest.mark.parametrize("known", [True, False], ids=["control tokens", "text"])
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=5, deadline=None)
@given(contents=st.lists(TEXTS, min_size=2, max_size=5), system=st.none() | TEXTS)
def test_random_conversations_keep_all_promises(form_of, name, known, contents, system):
    messages = conversation(contents, system)
    if suits(name, messages):
        check(name, *form_of(name, known), messages)


@pytest.mark.parametrize("name", NAMES)
def test_control_tokens_of_every_template_stay_text_in_every_other(form_of, name):
    tokenizer, form = form_of(name, True)
    evil = "".join(ALL_CONTROLS)
    messages = conversation([f"What is {evil}?", f"It is {evil}."], None)
    check(name, tokenizer, form, messages)
    tame = form.encode(conversation(["What is it?", "It is that."], None)).input_ids
    specials = set(tokenizer.all_special_ids)
    assert [token for token in form.encode(messages).input_ids if token in specials] == [token for token in tame if token in specials]


@pytest.mark.parametrize("name", NAMES)
def test_words_alone_and_the_last_answer_alone_are_trained_where_that_is_asked_for(form_of, name):
    messages = conversation(["One?", "1 is it", "Two?", "2 is it"], None)
    tokenizer, form = form_of(name, True, "last_assistant", False)
    encoded = form.encode(messages)
    ((start, end),) = spans(encoded)
    words = tokenizer.decode(encoded.input_ids[start:end])
    assert words.replace("<think>\n\n</think>", "").strip() == "2 is it"
    assert form.prompt_ids(messages[:-1]) == encoded.input_ids[:start]


@pytest.mark.parametrize("name", NAMES)
def test_a_part_of_a_source_is_what_its_rows_are_one_by_one(form_of, name):
    _, form = form_of(name, True)
    texts = ["Hi.", "\n\nHello.", "<|im_end|>", " </s>x", "é漢🙂", "12\t3", "a\nb "]
    rows = [conversation([one, other], None) for one, other in itertools.product(texts, repeat=2)]
    encode = Encoder(
        form, Policy(max_length=4096, overlong="error", truncate_from="end", learns_last=False, is_text=False), None, prompts=False
    )
    found = encode(Part(source=0, name="rows", rows=[{"messages": row} for row in rows], shape=None))
    alone = [form.encode(row) for row in rows]
    assert not found.told.faults
    assert found.input_ids.tolist() == [token for row in alone for token in row.input_ids]
    assert found.trained.tolist() == [flag for row in alone for flag in row.trained]


def test_a_template_that_rewrites_earlier_turns_says_so_and_is_refused(form_of):
    for name in NAMES:
        if library()[name].rewrites_earlier_turns:
            with pytest.raises(RunFault, match="rewrites earlier turns"):
                form_of(name, True)[1].encode(conversation(["a", "b", "c", "d"], None))
