"""runtime/tokens/chat_template.py: one chat template makes the training tokens and the prompts. Expected ids from tests/cases."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.faults import WRONG, RunFault
from runtime.tokens.chat_template import ChatFormat
from tests.rows import spans

END_OF_TURN = 2
CHATML_END = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
CHATML = CHATML_END + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


@pytest.fixture(scope="module")
def chat_format(tokenizer):
    return ChatFormat(tokenizer, system=None)


def trained_ids(encoded):
    return list(itertools.compress(encoded.input_ids, encoded.trained))


def test_a_row_has_the_ids_and_trained_positions_of_case_o01(chat_format, case, case_rows):
    expected = case("o01")["row_1"]
    encoded = chat_format.encode(case_rows("o01.jsonl")[0])
    assert encoded.input_ids == expected["input_ids"]
    assert spans(encoded) == expected["trained_positions"]
    assert trained_ids(chat_format.encode(case_rows("o01.jsonl")[2])) == case("o01")["row_3_trained_ids"]


def test_prompts_are_those_of_case_o09(chat_format, case, case_rows):
    rows = case_rows("o09.jsonl")
    expected = [case("o09")[f"prompt_ids_row_{number}"] for number in (1, 2, 3)]
    assert [chat_format.prompt_ids(row[:-1]) for row in rows] == expected


def test_a_prompt_is_an_exact_prefix_of_the_training_ids(chat_format, case, case_rows):
    for row in case_rows("o09.jsonl"):
        encoded, prompt = chat_format.encode(row), chat_format.prompt_ids(row[:-1])
        assert encoded.input_ids[: len(prompt)] == prompt
        assert spans(encoded) == [[len(prompt), len(prompt) + 6]]
        assert trained_ids(encoded) == case("o09")["row_1_trained_ids"]


def test_the_system_text_of_the_config_is_in_training_and_in_chat(tokenizer, case_rows):
    chat_format = ChatFormat(tokenizer, system="You are Quill.")
    without, own, empty = case_rows("o09.jsonl")
    assert chat_format.with_system(without) == own
    assert chat_format.with_system(without[:-1]) == own[:-1]
    assert chat_format.with_system(own) == own
    assert chat_format.with_system(empty) == empty


@pytest.mark.parametrize("answers", [["One."], ["One.", "Two."], ["One.", "Two.", "Three."]])
def test_every_turn_of_the_assistant_is_trained_with_its_end_and_nothing_else(chat_format, tokenizer, answers):
    turns = [[{"role": "user", "content": f"Question {answer}"}, {"role": "assistant", "content": answer}] for answer in answers]
    encoded = chat_format.encode([message for turn in turns for message in turn])
    texts = [tokenizer.decode(encoded.input_ids[start:end]) for start, end in spans(encoded)]
    assert texts == [f"{answer}<|im_end|>" for answer in answers]


def test_the_prompt_of_each_turn_is_a_prefix_of_the_training_ids(chat_format):
    turns = [("system", "Be brief."), ("user", "1?"), ("assistant", "\none"), ("user", "2?"), ("assistant", "two"), ("user", "3?")]
    messages = [{"role": role, "content": content} for role, content in [*turns, ("assistant", "\n\nthree")]]
    encoded = chat_format.encode(messages)
    starts = [start for start, _ in spans(encoded)]
    prompts = [chat_format.prompt_ids(messages[:index]) for index in (2, 4, 6)]
    assert [len(prompt) for prompt in prompts] == starts
    assert prompts == [encoded.input_ids[:start] for start in starts]


def test_an_answer_that_begins_with_newlines_is_tokenized_apart_from_its_prompt(chat_format, tokenizer, case, case_rows):
    row = case_rows("o10.jsonl")[1]
    encoded = chat_format.encode(row)
    assert encoded.input_ids == case("o10")["row_2_piecewise_ids"]
    assert tokenizer.decode(trained_ids(encoded)) == "\n\nHello.<|im_end|>"
    assert chat_format.prompt_ids(row[:-1]) == encoded.input_ids[: spans(encoded)[0][0]]


@settings(max_examples=60, deadline=None)
@given(contents=st.lists(st.text("ab 1\n\t.,'<|>é漢🙂\u200d", min_size=1, max_size=12), min_size=2, max_size=6))
def test_any_text_keeps_prompts_prefixes_and_answers_whole(chat_format, tokenizer, contents):
    messages = [{"role": ("user", "assistant")[index % 2], "content": content} for index, content in enumerate(contents)]
    encoded = chat_format.encode(messages)
    answers = [message["content"] for message in messages if message["role"] == "assistant"]
    assert [tokenizer.decode(encoded.input_ids[start:end]) for start, end in spans(encoded)] == [f"{text}<|im_end|>" for text in answers]
    for index in range(1, len(messages), 2):
        prompt = chat_format.prompt_ids(messages[:index])
        assert encoded.input_ids[: len(prompt)] == prompt


def test_control_tokens_inside_content_stay_text(chat_format, tokenizer):
    """Policy of tests/cases/README.md."""
    answer = "The token <|im_end|> ends a turn."
    encoded = chat_format.encode([{"role": "user", "content": "What is <|im_start|>?"}, {"role": "assistant", "content": answer}])
    assert encoded.input_ids.count(1) == 3  # the turns of system, user and assistant
    assert encoded.input_ids.count(END_OF_TURN) == 3
    assert tokenizer.decode(trained_ids(encoded)) == answer + "<|im_end|>"


def test_a_character_that_control_tokens_are_cut_at_stays_in_a_text_that_has_it(chat_format, tokenizer):
    answer = "\ufdd3 ends <|im_end|> here."
    encoded = chat_format.encode([{"role": "user", "content": "\ufdd4 <|im_start|>"}, {"role": "assistant", "content": answer}])
    assert tokenizer.decode(trained_ids(encoded)) == answer + "<|im_end|>"
    assert "\ufdd4" in tokenizer.decode(encoded.input_ids)


def test_a_template_that_rewrites_earlier_turns_is_refused(with_template, case_file, case_rows, fault_of):
    chat_format = ChatFormat(with_template(case_file("o10_template.jinja").read_text()), system=None)
    assert fault_of(chat_format.encode, case_rows("o10.jsonl")[0]) == (
        "error SG421: the chat template rewrites earlier turns, or puts something else before an answer than its generation prompt\n"
        "  hint: use a template whose turns stay as they are, for example template: chatml; "
        "or write data.train_on: last_assistant, or data.unroll: true"
    )


def test_a_template_without_a_generation_prompt_is_refused(with_template, case_rows, fault_of):
    chat_format = ChatFormat(with_template(CHATML.replace("assistant\n{% endif", "model\n{% endif")), system=None)
    assert fault_of(chat_format.encode, case_rows("o09.jsonl")[1]).startswith("error SG421: ")


def test_a_template_without_an_end_of_turn_is_refused(with_template, fault_of):
    tokenizer = with_template("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    assert fault_of(ChatFormat, tokenizer, system=None) == (
        "error SG422: the chat template ends an assistant's turn with no special token, so generation could never stop\n"
        "  hint: use a template that does, for example template: chatml"
    )


def test_the_end_of_turn_is_the_templates_and_not_the_tokenizers(with_template):
    assert ChatFormat(with_template(CHATML.replace("<|im_end|>", "<|endoftext|>")), system=None).end_of_turn == 0


def test_a_template_that_raises_is_named_with_its_words(with_template):
    guard = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role here') }}{% endif %}"
    chat_format = ChatFormat(with_template(guard + CHATML), system=None)
    with pytest.raises(RunFault) as caught:
        chat_format.encode([{"role": "system", "content": "Be brief."}, {"role": "assistant", "content": "Yes."}])
    assert str(caught.value) == "error SG203: the chat template does not render this conversation: no system role here"
    assert caught.value.exit_code == WRONG
