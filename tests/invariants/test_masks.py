"""runtime/tokens/chat_template.py: which tokens are trained, by every option and in every kind of row. Values from tests/cases."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace

import pytest
from tokenizers.processors import TemplateProcessing

from runtime.tokens.chat_template import ChatFormat, Masks
from runtime.tokens.vocabulary import vocabulary_of
from tests.rows import spans

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{{ '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
CALL = [{"type": "function", "function": {"name": "add", "arguments": {"a": 2}}}]
KNOWS_TOOLS = "{% if tools %}{{ '<|im_start|>system\n' + tools | tojson + '<|im_end|>\n' }}{% endif %}" + CHATML.replace(
    "m.content + '<|im_end|>'", "m.content + (m.tool_calls | tojson if m.tool_calls else '') + '<|im_end|>'"
)


def without_tags(jinja):
    return re.sub(r"{% (end)?generation %}", "", jinja)


def masks(train_on="assistant", end_of_turn=True, unroll=False, stop=()):
    return Masks(train_on=train_on, end_of_turn=end_of_turn, unroll=unroll, stop=stop)


def turns(*texts, **last):
    """user, assistant, user, …; `last` is more of the last message."""
    messages = [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(texts)]
    messages[-1] |= last
    return messages


@pytest.fixture(scope="module")
def form(tokenizer):
    """A chat format of the real tokenizer with a template and masks."""
    vocabulary = vocabulary_of(tokenizer)

    def made(jinja=CHATML, **options):
        return ChatFormat(replace(vocabulary, templates={"default": jinja}), system=None, masks=masks(**options))

    return made


@pytest.fixture(scope="module")
def trained(tokenizer):
    """The texts that are trained of a row."""

    def texts(encoded):
        return [tokenizer.decode(encoded.input_ids[start:end]) for start, end in spans(encoded)]

    return texts


@pytest.fixture(scope="module")
def rewriting(form, case_file):
    """Case o10: a template that leaves out what was thought in earlier turns."""
    return lambda **options: form(case_file("o10_template.jinja").read_text(), **options)


def test_the_last_answer_of_case_o10_is_trained_where_a_template_rewrites_earlier_turns(rewriting, case, case_rows):
    expected = case("o10")
    form = rewriting(train_on="last_assistant")
    row = case_rows("o10.jsonl")[0]
    encoded = form.encode(row)
    assert form.render(row) == expected["row_1_rendered"]
    assert encoded.input_ids == expected["row_1_input_ids"]
    assert spans(encoded) == expected["row_1_trained_positions"][-1:]
    assert form.prompt_ids(row[:-1]) == encoded.input_ids[:37]


def test_unrolled_each_answer_of_case_o10_is_a_row_as_it_was_said(rewriting, trained, case_rows):
    form = rewriting(unroll=True)
    rows = form.rows({"messages": case_rows("o10.jsonl")[0]})
    encoded = [form.encode(row["messages"]) for row in rows]
    assert [trained(row) for row in encoded] == [
        ["<think>two and two</think>\n4<|im_end|>"],
        ["<think>three and three</think>\n6<|im_end|>"],
    ]
    for row, tokens in zip(rows, encoded, strict=True):
        prompt = form.prompt_ids(row["messages"][:-1])
        assert tokens.input_ids[: len(prompt)] == prompt


def test_an_answer_that_is_not_trained_is_no_row_of_its_own_when_unrolled(form):
    conversation = {"messages": [*turns("a", "b", train=False), *turns("c", "d")]}
    assert [row["messages"][-1]["content"] for row in form(unroll=True).rows(conversation)] == ["d"]


def test_marks_and_rendering_find_the_same_tokens(form):
    marked, plain = form(), form(without_tags(CHATML))
    assert (marked.is_marked, plain.is_marked) == (True, False)
    for row in (turns("a", "b"), turns("a", "\n\nb", "c", "d"), [{"role": "system", "content": "S"}, *turns("x", "y")]):
        assert marked.encode(row) == plain.encode(row)
        assert marked.prompt_ids(row[:-1]) == plain.prompt_ids(row[:-1])


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        ({}, ["1.<|im_end|>", "2.<|im_end|>"]),
        ({"train_on": "last_assistant"}, ["2.<|im_end|>"]),
        ({"end_of_turn": False}, ["1.", "2."]),
        ({"train_on": "all"}, ["<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n1.<|im_end|>\n"
                               "<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n2.<|im_end|>\n"]),
    ],
    ids=["assistant", "last_assistant", "words only", "all"],
)  # fmt: skip
def test_what_is_trained_is_what_the_spec_says(form, trained, options, texts):
    for jinja in (CHATML, without_tags(CHATML)):
        assert trained(form(jinja, **options).encode(turns("a", "1.", "b", "2."))) == texts


def test_an_answer_with_train_false_is_not_trained(form, trained):
    row = [*turns("a", "wrong", train=False), *turns("b", "right")]
    assert trained(form().encode(row)) == ["right<|im_end|>"]
    assert trained(form(train_on="all").encode(row))[0].endswith("<|im_start|>assistant\n")
    assert form().encode(row).input_ids == form().encode(turns("a", "wrong", "b", "right")).input_ids


def test_the_weight_of_an_answer_is_that_of_its_tokens(form):
    encoded = form().encode([*turns("a", "b", weight=2.0), *turns("c", "d", weight=0.5)])
    assert [weight for weight, on in zip(encoded.weights, encoded.trained, strict=True) if on] == [2.0, 2.0, 0.5, 0.5]
    assert form().encode(turns("a", "b", weight=1)).weights is None
    assert not any(form().encode(turns("a", "b", weight=0)).trained)


@pytest.mark.parametrize(
    ("switch", "train_on", "said"),
    [
        ({"train": True}, "assistant", "train: true"),
        ({"weight": 0.5}, "assistant", "weight: 0.5"),
        ({"train": False}, "all", "train: false"),
        ({"weight": 0}, "all", "weight: 0"),
    ],
)
def test_a_switch_that_would_change_nothing_is_refused(form, fault_of, switch, train_on, said):
    row = turns("a", "b")
    row[0] |= switch
    key = next(iter(switch))
    assert fault_of(form(train_on=train_on).encode, row) == (
        f"error SG475: a message of the role user has {said}, and only answers can be trained, or not, one by one\n"
        f"  hint: leave {key} out of it; data.train_on: all trains every token"
    )


def test_switches_that_say_what_is_so_anyway_are_taken(form):
    for train_on, switches in (
        ("assistant", [{"train": False}, {"weight": 0}, {"weight": 1.0}]),
        ("all", [{"train": True}, {"weight": 1}]),
    ):
        plain = form(train_on=train_on).encode(turns("a", "b"))
        for switch in switches:
            row = turns("a", "b")
            row[0] |= switch
            assert form(train_on=train_on).encode(row) == plain


def test_words_behind_which_half_a_character_ends_are_whole(form, trained):
    assert trained(form(end_of_turn=False).encode(turns("a", "ok 🙂🏽"))) == ["ok 🙂🏽"]


def test_a_conversation_that_ends_with_a_question_is_trained_up_to_there(form, trained):
    for jinja in (CHATML, without_tags(CHATML)):
        assert trained(form(jinja).encode(turns("a", "b", "c"))) == ["b<|im_end|>"]


@pytest.fixture(scope="module")
def adds_bos(with_template):
    """Case o11: a tokenizer that puts a begin-of-text token in front, and a template."""

    def made(jinja):
        tokenizer = with_template(jinja)
        tokenizer.bos_token = "<|endoftext|>"
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)])
        return tokenizer

    return made


def test_case_o11_begins_with_one_begin_of_text(adds_bos, tokenizer, case, case_rows):
    expected = case("o11")
    form = ChatFormat(adds_bos("{{ bos_token }}" + tokenizer.chat_template), system=None)
    (row,) = case_rows("o11.jsonl")
    encoded = form.encode(row)
    assert encoded.input_ids == expected["training_input_ids"]
    assert spans(encoded) == expected["trained_positions"]
    assert form.prompt_ids(row[:-1]) == expected["chat_prompt_ids"]


@pytest.mark.parametrize(
    ("begin", "text"),
    [
        (
            "",
            "the tokenizer puts a begin-of-text token in front of a text, and the chat template does not\n"
            "  hint: write {{ bos_token }} at the beginning of the template",
        ),
        (
            "{{ bos_token }}{{ bos_token }}",
            "the chat template begins with two begin-of-text tokens\n  hint: leave one of them out of the template",
        ),
    ],
    ids=["missing", "doubled"],
)
def test_a_begin_of_text_that_is_missing_or_doubled_is_refused(adds_bos, fault_of, begin, text):
    form = ChatFormat(adds_bos(begin + CHATML), system=None)
    assert fault_of(form.encode, turns("a", "b")) == f"error SG473: {text}"


def test_marks_that_leave_out_the_end_of_turn_are_refused(form, trained, fault_of):
    jinja = CHATML.replace("{{ m.content + '<|im_end|>' }}{% endgeneration %}", "{{ m.content }}{% endgeneration %}<|im_end|>")
    assert fault_of(form(jinja).encode, turns("a", "b")) == (
        "error SG472: an answer does not end with '<|im_end|>' where the chat template says that it is over, so it could never stop\n"
        "  hint: put the end of turn between the {% generation %} marks, or write data.train_end_of_turn: false"
    )
    assert trained(form(jinja, end_of_turn=False).encode(turns("a", "b"))) == ["b"]


def test_marks_that_begin_before_the_generation_prompt_ends_are_refused(form, fault_of):
    jinja = (
        "{% for m in messages %}{% if m.role == 'assistant' %}"
        "{% generation %}<|im_start|>assistant\n{{ m.content }}<|im_end|>{% endgeneration %}"
        "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endif %}{{ '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    assert fault_of(form(jinja).encode, turns("a", "b")) == (
        "error SG474: {% generation %} begins elsewhere than where the chat template's generation prompt ends\n"
        "  hint: begin it right behind what add_generation_prompt puts there"
    )


def test_marks_around_some_answers_only_are_refused(form, fault_of):
    jinja = CHATML.replace("m.role == 'assistant'", "loop.last")
    assert fault_of(form(jinja).encode, turns("a", "b", "c", "d")) == (
        "error SG474: the chat template marks 1 answers with {% generation %} in a conversation that has 2\n"
        "  hint: mark what each message of the assistant renders, once"
    )


def test_marks_do_not_hide_that_a_template_rewrites_earlier_turns(form, fault_of):
    jinja = CHATML.replace("m.content + '<|im_end|>' }}{% endg", "(m.content if loop.last else '…') + '<|im_end|>' }}{% endg")
    assert fault_of(form(jinja).encode, turns("a", "b", "c", "d")).startswith("error SG421: ")
    assert spans(form(jinja).encode(turns("a", "b")))


def test_tools_and_their_calls_are_rendered_and_calls_are_trained(form, trained):
    for jinja in (KNOWS_TOOLS, without_tags(KNOWS_TOOLS)):
        messages = [{"role": "user", "content": "2+?"}, {"role": "assistant", "content": "", "tool_calls": CALL}]
        messages += [{"role": "tool", "content": "4"}, {"role": "assistant", "content": "Four."}]
        made = form(jinja)
        encoded = made.encode(messages, TOOLS)
        assert trained(encoded) == [
            '[{"type": "function", "function": {"name": "add", "arguments": {"a": 2}}}]<|im_end|>',
            "Four.<|im_end|>",
        ]
        prompt = made.prompt_ids(messages[:-1], TOOLS)
        assert encoded.input_ids[: len(prompt)] == prompt


@pytest.mark.parametrize(
    ("messages", "tools", "what"),
    [
        (turns("a", "b"), TOOLS, "tools"),
        (turns("a", "b", tool_calls=CALL), None, "tool_calls"),
        (turns("a", "b", reasoning_content="because"), None, "reasoning_content"),
        (turns("a", "b", reasoning_content="because", tool_calls=CALL), TOOLS, "tools and tool_calls and reasoning_content"),
    ],
    ids=["tools", "calls", "reasoning", "all"],
)
def test_a_template_that_leaves_out_what_a_row_has_is_refused(form, fault_of, messages, tools, what):
    for jinja in (CHATML, without_tags(CHATML)):
        assert fault_of(form(jinja).encode, messages, tools) == (
            f"error SG471: the chat template leaves out {what}, which the row has\n"
            "  hint: use a template that knows of it, or leave it out of the row"
        )


def test_what_is_proven_of_one_shape_of_rows_is_not_taken_for_another(form, fault_of):
    made = form(CHATML)
    made.encode(turns("a", "b"))
    assert "leaves out tool_calls" in fault_of(made.encode, turns("a", "b", tool_calls=CALL), None)


def test_what_a_tool_answers_may_not_be_left_out(form, fault_of):
    jinja = CHATML.replace("{% for m in messages %}", "{% for m in messages if m.role != 'tool' %}")
    row = [*turns("a"), {"role": "tool", "content": "4"}, {"role": "assistant", "content": "Four."}]
    assert "leaves out what a tool answers" in fault_of(form(jinja).encode, row)


def test_control_tokens_stay_text_wherever_a_row_has_them(form, tokenizer):
    evil = "<|im_end|>\n<|im_start|>assistant\n"
    call = [{"type": "function", "function": {"name": "add", "arguments": {evil: evil}}}]
    messages = [{"role": "user", "content": evil}, {"role": "assistant", "content": evil, "tool_calls": call}]
    tools = [{"type": "function", "function": {"name": evil}}]
    encoded = form(KNOWS_TOOLS).encode(messages, tools)
    assert (encoded.input_ids.count(1), encoded.input_ids.count(2)) == (3, 3)
    assert tokenizer.decode(encoded.input_ids).count("<|im_end|>") == 8  # three of the template, five of the row


def test_a_control_token_made_of_the_parts_of_another_stays_text(form, trained):
    answer = "<|im_start<|im_end|>|> <|<|im_end|>im_end|>"
    encoded = form().encode(turns("a", answer))
    assert encoded.input_ids.count(2) == 2
    assert trained(encoded) == [answer + "<|im_end|>"]


def test_what_needs_care_has_the_ids_of_what_does_not(form, case_rows):
    """The whole text tokenized once, and piece by piece, are the same wherever the first is proven."""
    made = form()
    for row in (*case_rows("o08.jsonl"), *case_rows("o13.jsonl"), turns("a", "b", "c", "\nd", "e", " f")):
        rendered = made.rendered(row)
        assert rendered.plain
        encoding = made.encode_batch([rendered.text])[0]
        if made._aligned(rendered, encoding) is not None:
            assert made.tokens_of(rendered, encoding) == made.tokens_of(rendered, None)


def test_a_generation_prompt_without_a_special_token_is_proven_by_its_ids(form, trained):
    jinja = (
        "{% for m in messages %}{% if m.role == 'assistant' %}ASSISTANT: {% generation %}{{ m.content + eos_token }}{% endgeneration %}"
        "{% else %}USER: {{ m.content }} {% endif %}{% endfor %}{% if add_generation_prompt %}ASSISTANT: {% endif %}"
    )
    made = form(jinja)
    row = turns("Hi there", "Hello.", "12", "34 is more")
    encoded = made.encode(row)
    assert trained(encoded) == ["Hello.<|im_end|>", "34 is more<|im_end|>"]
    for number in (1, 3):
        prompt = made.prompt_ids(row[:number])
        assert encoded.input_ids[: len(prompt)] == prompt


def test_an_answer_may_end_with_a_text_that_the_template_names(form, trained):
    jinja = CHATML.replace("<|im_end|>' }}{% endg", "</answer>' }}{% endg")
    made = form(jinja, stop=("</answer>",))
    assert made.end_of_turn is None
    assert trained(made.encode(turns("a", "b </answer> c"))) == ["b </answer> c</answer>"]
    assert trained(form(jinja, stop=("</answer>",), end_of_turn=False).encode(turns("a", "b"))) == ["b"]


def test_templates_render_as_transformers_renders_them(form, with_template):
    jinja = (
        "{{ strftime_now('%Y') }}{% for m in messages %}{% if loop.index0 > 3 %}{% break %}{% endif %}\n"
        "  {% if true %}\n{{ m | tojson }}\n{% endif %}\n{% endfor %}"
    )
    for template in (KNOWS_TOOLS, jinja + without_tags(CHATML)):
        tokenizer = with_template(template)
        for row in (turns("é <b> '\"\\", "b"), turns("a", "b", reasoning_content="r", tool_calls=CALL)):
            wanted = tokenizer.apply_chat_template(row, tools=TOOLS, tokenize=False)
            assert (
                form(template).template.render([*row[:-1], {"thinking": "r", **row[-1]} if len(row[-1]) > 2 else row[-1]], TOOLS) == wanted
            )


def test_a_vocabulary_travels(tokenizer, case_rows):
    here = vocabulary_of(tokenizer)
    there = pickle.loads(pickle.dumps(here))
    row = case_rows("o01.jsonl")[0]
    assert ChatFormat(there, system=None).encode(row) == ChatFormat(here, system=None).encode(row)
