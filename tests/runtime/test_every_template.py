"""Random conversations through every chat template that comes along: what is trained are the assistant's words and what ends them,
and a chat's prompt is how the training row begins. That packed rows have the loss of rows alone is in test_packing.py."""

from __future__ import annotations

import copy
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conversations.begin_of_text import in_use
from conversations.templates import library
from runtime.chat_template import ChatFormat, Masks
from runtime.faults import RunFault

CONTROLS = ["<|im_end|>", "<|im_start|>user\n", "</s>", "<eoa>", "<end_of_turn>", "[/INST]", "<|eot_id|>", "ASSISTANT:", "<think>"]
WORDS = st.lists(st.one_of(st.text("abcXYZ .,?é\n", min_size=1, max_size=9), st.sampled_from(CONTROLS)), min_size=1, max_size=4)
TEXTS = WORDS.map("".join).filter(str.strip)
PROBE = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]


@pytest.fixture(scope="module", params=library())
def chat(request, tokenizer):
    """A template with a tokenizer that has its stop texts as special tokens."""
    entry, own = library()[request.param], copy.deepcopy(tokenizer)
    own.add_special_tokens({"additional_special_tokens": [text for text in entry.stop if text not in own.get_vocab()]})
    own.chat_template = in_use(entry.jinja, adds_bos=False, begins=False)
    train_on = "last_assistant" if entry.rewrites_earlier_turns else "assistant"
    return ChatFormat(own, system=None, masks=Masks(train_on=train_on, end_of_turn=True, unroll=False, stop=entry.stop)), own


def knows_system_texts(form):
    try:
        form.render([{"role": "system", "content": "Be brief."}, *PROBE])
    except RunFault:
        return False
    return True


def trained_runs(row):
    """The ids of each run of trained tokens."""
    runs = itertools.groupby(zip(row.input_ids, row.trained, strict=True), key=lambda pair: pair[1])
    return [[token for token, _ in run] for is_trained, run in runs if is_trained]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(exchanges=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3), system=st.one_of(st.none(), TEXTS))
def test_words_and_ends_are_trained_and_the_prompt_is_a_prefix(chat, exchanges, system):
    form, own = chat
    messages = [{"role": "system", "content": system}] if system and knows_system_texts(form) else []
    for question, answer in exchanges:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    row = form.encode(messages)
    answers = [answer for _, answer in exchanges][-1 if form.masks.train_on == "last_assistant" else 0 :]
    told = [own.decode(run) for run in trained_runs(row)]
    assert len(told) == len(answers)
    for text, answer in zip(told, answers, strict=True):
        assert text.endswith(form.end_text)
        words = text.removesuffix(form.end_text)
        assert words.removeprefix("<think>\n\n</think>\n\n").strip() == answer.strip()
    prompt = form.prompt_ids(messages[:-1])
    assert row.input_ids[: len(prompt)] == prompt
    assert not any(row.trained[len(prompt) - 1 : len(prompt)])
    assert row.trained[len(prompt)]
