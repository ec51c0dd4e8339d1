"""The library of chat templates: each renders what tests/chat_templates/NAME.yaml says, with [[ ]] around what is trained.

Texts of XTuner's templates are made by its own table and encode_fn (BOS, SYSTEM, INSTRUCTION, output, SUFFIX, EOS, SEP); those of the
others by what the models' own chat templates write. bos_token is <s>, eos_token </s>.
"""

from __future__ import annotations

from functools import cache

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment

from conversations.begin_of_text import in_use
from conversations.generation_tag import without_tags
from conversations.templates import FOLDER, library
from runtime.tokens.chat_render import ChatTemplate
from specgen.facts.template import render_chat

NAMES = {"bos_token": "<s>", "eos_token": "</s>"}
SYSTEM = {"role": "system", "content": "You are X."}
FIRST = [{"role": "user", "content": "你是谁"}, {"role": "assistant", "content": "我是小助手"}]
SECOND = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
CONVERSATIONS = {"one_turn": FIRST, "two_turns": [*FIRST, *SECOND], "two_turns_with_system": [SYSTEM, *FIRST, *SECOND]}
STEADY = [name for name, template in library().items() if not template.rewrites_earlier_turns]


@pytest.fixture(scope="module")
def expected(root):
    """The texts of a template's file."""
    return lambda name: yaml.safe_load((root / f"tests/chat_templates/{name}.yaml").read_text(encoding="utf-8"))


@cache
def template(jinja):
    return ChatTemplate({"default": jinja}, NAMES)


def marked(jinja, messages):
    text, spans = template(jinja).render_marked(messages)
    for start, end in reversed(spans):
        text = f"{text[:start]}[[{text[start:end]}]]{text[end:]}"
    return text


def plain(jinja, messages, *, prompt=False):
    """As a server renders it, that knows Jinja and nothing else."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(jinja).render(messages=messages, add_generation_prompt=prompt, **NAMES)


def test_each_template_has_its_file_its_entry_and_its_texts(root):
    assert {file.stem for file in FOLDER.glob("*.jinja")} == set(library())
    assert {file.stem for file in (root / "tests/chat_templates").iterdir()} == set(library())


@pytest.mark.parametrize("name", library())
def test_a_template_writes_its_golden_texts(name, expected):
    found = {case: marked(library()[name].jinja, CONVERSATIONS[case]) for case in expected(name)}
    assert found == expected(name)


@pytest.mark.parametrize("name", library())
def test_compiler_and_plain_jinja_write_the_same(name):
    jinja, turns = library()[name].jinja, CONVERSATIONS["two_turns"]
    exported = without_tags(jinja)
    assert "%}" in exported
    for messages, prompt in ((turns, False), (turns[:3], True)):
        text = template(jinja).render(messages, prompt=prompt)
        assert render_chat(jinja, messages, add_generation_prompt=prompt, names=NAMES) == text
        assert plain(exported, messages, prompt=prompt) == text


@pytest.mark.parametrize("name", library())
def test_transformers_writes_the_same(name, tokenizer_of):
    tokenizer = tokenizer_of(library()[name].jinja)
    names = {key: str(text) for key, text in tokenizer.special_tokens_map.items()}
    wanted = ChatTemplate({"default": library()[name].jinja}, names).render(CONVERSATIONS["two_turns"])
    assert tokenizer.apply_chat_template(CONVERSATIONS["two_turns"], tokenize=False) == wanted


@pytest.fixture(scope="module")
def tokenizer_of():
    """A small tokenizer with a chat template."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    def made(jinja):
        backend = Tokenizer(WordLevel({"<s>": 0, "</s>": 1, "?": 2}, unk_token="?"))
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
        tokenizer.chat_template = jinja
        return tokenizer

    return made


TEXTS = st.text("ab 漢\n<|>'{%}", min_size=1, max_size=8).filter(str.strip)


@settings(max_examples=60, deadline=None)
@given(contents=st.lists(TEXTS, min_size=2, max_size=6), system=st.none() | TEXTS)
def test_a_prompt_is_how_the_whole_begins_and_marks_hold_the_answers(contents, system):
    turns = [{"role": ("user", "assistant")[index % 2], "content": content} for index, content in enumerate(contents)]
    for name in STEADY:
        first = [{"role": "system", "content": system}] if system and library()[name].system != "refused" else []
        messages, made = [*first, *turns], template(library()[name].jinja)
        text, spans = made.render_marked(messages)
        answers = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
        for index, (start, end) in zip(answers, spans, strict=True):
            assert made.render(messages[:index], prompt=True) == text[:start], name
            said = messages[index]["content"]
            assert text[start:end].lstrip().startswith(said.lstrip()[: len(said.strip())]), name
            assert len(text[start:end].strip()) > len(said.strip()), name


def test_qwen3_says_that_it_rewrites_and_does():
    thoughts = [{**message, "reasoning_content": "Hm."} if message["role"] == "assistant" else message for message in [*FIRST, *SECOND]]
    assert [name for name, entry in library().items() if entry.rewrites_earlier_turns] == ["qwen3"]
    assert marked(library()["qwen3"].jinja, thoughts[:2]).endswith("[[<think>\nHm.\n</think>\n\n我是小助手<|im_end|>]]\n")
    assert marked(library()["qwen3"].jinja, thoughts).count("Hm.") == 1


def test_qwen3_writes_tools_their_calls_and_their_answers():
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    messages = [
        {"role": "user", "content": "1?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "2"},
        {"role": "tool", "content": "3"},
        {"role": "assistant", "content": "2."},
    ]
    text = template(library()["qwen3"].jinja).render(messages, [{"type": "function", "function": {"name": "add"}}])
    assert text.startswith("<|im_start|>system\n# Tools\n\nYou may call one or more functions")
    assert '<tools>\n{"type": "function", "function": {"name": "add"}}\n</tools>' in text
    assert '<|im_start|>assistant\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call><|im_end|>\n' in text
    answers = "<tool_response>\n2\n</tool_response>\n<tool_response>\n3\n</tool_response>"
    assert f"<|im_start|>user\n{answers}<|im_end|>\n" in text
    assert text.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n2.<|im_end|>\n")


@pytest.mark.parametrize(
    "jinja",
    [
        "{% for m in messages %}\n{% generation %}\n\n{{ m.content }}\n{% endgeneration %}\n{% endfor %}",
        "a  {%- generation -%}  {{ messages[0].content }}  {%- endgeneration -%}  b",
        "\n {% generation %}  {% if true %}\n  x{% endif %}\n {%+ endgeneration %}  \r\n{% if true %}y{% endif %}\n",
        "{{ '{% generation %}' }}{% raw %}{% generation %}{% endraw %}{# {% generation %} #}{%generation%}x{%endgeneration%}",
    ],
)
def test_without_its_tags_a_template_writes_the_same(jinja):
    messages = [{"role": "user", "content": "Hi"}]
    assert plain(without_tags(jinja), messages) == template(jinja).render(messages)


def test_a_text_that_looks_like_a_tag_stays():
    assert without_tags("{{ '{% generation %}' }}{% raw %}{% endgeneration %}{% endraw %}") == (
        "{{ '{% generation %}' }}{% raw %}{% endgeneration %}{% endraw %}"
    )


def test_a_conversation_begins_as_the_tokenizer_begins_a_text():
    chatml, own = library()["chatml"].jinja, "{{ bos_token }}" + library()["chatml"].jinja
    assert plain(without_tags(in_use(chatml, adds_bos=True, begins=False)), FIRST).startswith("<s><|im_start|>")
    assert in_use(own, adds_bos=True, begins=True) == own
    assert in_use(own, adds_bos=False, begins=True) == own  # a custom template is taken at its word
    for entry in library().values():
        assert "<s>" not in plain(without_tags(in_use(entry.jinja, adds_bos=False, begins=True)), FIRST), entry.name


def test_a_role_without_a_form_is_refused_by_name(fault_text):
    said = "error SG203: the chat template does not render this conversation: "
    tool = [*FIRST, {"role": "tool", "content": "3"}]
    assert fault_text("vicuna", tool) == said + "the chat template vicuna has no form for messages of the role tool"
    assert fault_text("minicpm", [SYSTEM, *FIRST]) == said + "the chat template minicpm has no form for messages of the role system"
    assert fault_text("gemma2", [SYSTEM, *FIRST]) == said + "Gemma 2 has no form for system texts"


@pytest.fixture
def fault_text():
    from runtime.faults import RunFault

    def text(name, messages):
        with pytest.raises(RunFault) as caught:
            template(library()[name].jinja).render(messages)
        return str(caught.value)

    return text
