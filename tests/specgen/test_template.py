"""specgen/facts/template.py: what a template makes of messages, asked for once or often."""

from __future__ import annotations

from datetime import date

from specgen.facts.template import render_chat

SAID = [{"role": "user", "content": "Hi 你好"}]


def test_a_text_that_is_asked_for_again_is_the_same():
    template = "{{ bos_token }}{% for message in messages %}{{ message.content }}{% endfor %}{% if add_generation_prompt %}>{% endif %}"
    texts = [render_chat(template, SAID, add_generation_prompt=prompt) for prompt in (False, True, False)]
    assert texts == ["<bos>Hi 你好", "<bos>Hi 你好>", "<bos>Hi 你好"]
    assert render_chat(template, SAID, add_generation_prompt=False, names={"bos_token": "<s>"}) == "<s>Hi 你好"


def test_what_json_does_not_hold_is_rendered_all_the_same():
    messages = [{"role": "user", "content": "Hi", "when": date(2026, 1, 2)}]
    assert render_chat("{{ messages[0].when }}", messages, add_generation_prompt=False) == "2026-01-02"
