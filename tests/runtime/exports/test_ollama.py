"""runtime/exports/ollama.py and turns.py: a template is written only where it renders what the model's own does."""

from __future__ import annotations

import pytest

from conversations.templates import library
from runtime.config import ChatConfig
from runtime.exports.ollama import LEFT_OUT, go_template, modelfile
from runtime.exports.turns import turns_of
from runtime.faults import RunFault
from runtime.tokens.chat_template import ChatFormat
from tests.runtime.small_tokenizers import CHATML, small_tokenizer

CHAT = {"max_new_tokens": 64, "temperature": 0.7, "top_k": 40, "top_p": 0.9, "repetition_penalty": 1.1, "seed": 3, "plugins": ()}
ASKED = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hello\n\nyou"},
    {"role": "assistant", "content": "Hi."},
    {"role": "user", "content": "{{ x }}"},
]


def form_of(template, **options):
    tokenizer = small_tokenizer("gpt-2", **options)
    tokenizer.chat_template = template
    return tokenizer, ChatFormat(tokenizer, system=None)


def written(template, *, begins=False, system=None, stop=()):
    tokenizer, form = form_of(template, begins=begins)
    chat = ChatConfig(system=system, stop=stop, **CHAT)
    return modelfile("a.gguf", chat=chat, tokenizer=tokenizer, form=form, ends=["<|im_end|>"], positions=512)


def test_chatml_becomes_a_go_template_with_its_parameters():
    assert written(CHATML, system="Be kind.", stop=("END",)) == (
        "FROM ./a.gguf\n\n"
        'TEMPLATE """{{ range .Messages }}{{ if eq .Role "system" }}<|im_start|>system\n{{ .Content }}<|im_end|>\n'
        '{{ else if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n'
        '{{ else if eq .Role "assistant" }}<|im_start|>assistant\n{{ .Content }}<|im_end|>\n'
        '{{ end }}{{ end }}<|im_start|>assistant\n"""\n\n'
        'SYSTEM "Be kind."\n\n'
        "PARAMETER temperature 0.7\nPARAMETER top_k 40\nPARAMETER top_p 0.9\nPARAMETER repeat_penalty 1.1\n"
        "PARAMETER repeat_last_n -1\nPARAMETER seed 3\nPARAMETER num_predict 64\nPARAMETER num_ctx 512\n"
        'PARAMETER stop "<|im_end|>"\nPARAMETER stop "END"\n'
    )


def test_a_begin_of_text_that_the_tokenizer_adds_is_not_written_twice():
    _, form = form_of("{{ bos_token }}" + CHATML, begins=True)
    turns = turns_of(form, begin="<s>")
    assert turns.render(ASKED) == form.render(ASKED, prompt=True).removeprefix("<s>")
    assert "<s>" not in written("{{ bos_token }}" + CHATML, begins=True)


def test_a_system_text_that_the_template_has_itself_goes_along():
    own = "{% if messages[0].role != 'system' %}<|im_start|>system\nI am I.<|im_end|>\n{% endif %}" + CHATML
    text = written(own)
    assert 'TEMPLATE """{{ if ne (index .Messages 0).Role "system" }}<|im_start|>system\nI am I.<|im_end|>\n{{ end }}{{ range' in text


@pytest.mark.parametrize(
    "template",
    [
        # the first turn is written in another way than those that follow
        "{% for m in messages %}{% if not loop.first %}NEXT {% endif %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        # contents are changed
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | upper }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        # Go would take this for its own
        CHATML.replace("\n{{ message.content", "{{ '{{' }}\n{{ message.content"),
    ],
)
def test_a_template_that_go_cannot_have_is_left_out_and_said(template):
    assert LEFT_OUT in written(template)
    assert "TEMPLATE" not in written(template)


def test_many_templates_of_the_library_are_written_and_each_renders_the_same():
    taken = {}
    for name, template in library().items():
        try:
            _, form = form_of(template.jinja)
        except RunFault:
            continue
        if (turns := turns_of(form, begin="")) is not None and go_template(turns):
            assert turns.render(ASKED[1:2]) == form.render(ASKED[1:2], prompt=True), name
            taken[name] = turns
    assert {"chatml", "internlm2_chat"} <= set(taken)
