"""XTuner's formats (conversations/presets.py): what its map functions make of a row, without what they lose."""

from __future__ import annotations

import pytest

from conversations.formats import Shape, read

CODER = "You are a professional programer. Please provide the corresponding code based on the description of Human.\n"
COLORIST = "You are a professional color designer. Please provide the corresponding colors based on the description of Human.\n"
LAWYER = "你现在是一名专业的中国律师，请根据用户的问题给出准确、有理有据的回复。\n"
MEDICAL = "如果你是一名医生，请根据患者的描述回答医学问题。\n"
SQL = "If you are an expert in SQL, please generate a good SQL Query for Question based on the CREATE TABLE statement.\n"
ARXIV = (
    "If you are an expert in writing papers, please generate a good paper title for this paper"
    " based on other authors' descriptions of their abstracts.\n"
)


# expected from the functions of xtuner/dataset/map_fns/dataset_map_fns (0.1.17) with SYSTEM_TEMPLATE of xtuner/utils/templates.py
@pytest.mark.parametrize(
    ("form", "row", "system", "user", "assistant"),
    [
        ("alpaca_zh", {"instruction_zh": "a", "input_zh": "b", "output_zh": "c"}, None, "a\nb", "c"),
        ("alpaca_zh", {"instruction_zh": "a", "input_zh": "", "output_zh": "c"}, None, "a", "c"),
        ("arxiv", {"abstract": "a", "title": "b"}, ARXIV, "a", "b"),
        ("code_alpaca", {"prompt": "a", "completion": "b"}, CODER, "a", "b"),
        ("colors", {"description": "Sky: light blue: pale", "color": "#aaf"}, COLORIST, "light blue: pale", "#aaf"),
        ("colors", {"description": "a warm red", "color": "#f00"}, COLORIST, "a warm red", "#f00"),  # XTuner asks nothing then
        ("colors", {"description": "Red:", "color": "#f00"}, COLORIST, "Red:", "#f00"),
        ("crime_kg_assitan", {"input": "a", "output": "b"}, LAWYER, "a", "b"),
        ("default", {"input": "a", "output": "b"}, None, "a", "b"),
        ("law_reference", {"question": "a", "answer": "b"}, LAWYER, "a", "b"),
        ("medical", {"instruction": "a", "input": "b", "output": "c"}, MEDICAL, "a\nb", "c"),
        ("oasst1", {"text": "### Human: Hi ### Assistant: Hello."}, None, "Hi", "Hello."),
        ("openorca", {"system_prompt": "s", "question": "a", "response": "b"}, "s", "a", "b"),
        ("openorca", {"system_prompt": "", "question": "a", "response": "b"}, None, "a", "b"),
        ("sql", {"context": "CREATE TABLE t", "question": "a", "answer": "b"}, SQL, "CREATE TABLE t\na", "b"),
        ("stack_exchange", {"question": "a", "response": "b"}, None, "a", "b"),
        ("tiny_codes", {"prompt": "a", "response": "b"}, CODER, "a", "b"),
        ("wizardlm", {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}, None, "a", "b"),
        ("conversation", {"conversation": [{"system": "s", "input": "a", "output": "b"}]}, "s", "a", "b"),
    ],
)  # fmt: skip
def test_a_row_of_each_format(form, row, system, user, assistant):
    expected = [("system", system)] if system else []
    assert turns(row, form) == [*expected, ("user", user), ("assistant", assistant)]


def turns(row, form):
    conversation, problems = read(row, Shape(form))
    assert not problems, problems
    return [(message["role"], message["content"]) for message in conversation["messages"]]


def faults(row, form):
    return [problem.text for problem in read(row, Shape(form))[1]]


def test_every_column_of_a_question_is_needed():
    assert faults({"context": "CREATE TABLE t", "answer": "b"}, "sql") == ["the row has no question"]
    assert faults({"context": None, "question": "a", "answer": "b"}, "sql") == ["context is null; it has to be text"]
    assert turns({"instruction": "a", "output": "c"}, "medical")[1] == ("user", "a")


def test_oasst1_keeps_headings_and_a_last_question():
    text = "### Human: How?### Assistant: So:\n### Steps\n1. Go.### Human: Why?"
    assert turns({"text": text}, "oasst1") == [("user", "How?"), ("assistant", "So:\n### Steps\n1. Go."), ("user", "Why?")]
    assert faults({"text": "Hi"}, "oasst1") == ["text does not begin with '### Human:' or '### Assistant:'"]
    assert faults({"text": None}, "oasst1") == ["text is null; it has to be text"]


def test_msagent_react_is_read_as_data_and_never_run():
    turns_of = "[{'from': 'system', 'value': 's'}, {'from': 'user', 'value': 'a'}, {'from': 'assistant', 'value': 'b'}]"
    assert turns({"conversations": turns_of}, "msagent_react") == [("system", "s"), ("user", "a"), ("assistant", "b")]
    told = ["conversations is text that is no list of turns"]
    for text in ("__import__('os').system('true')", "[{'from': 'user'", "(" * 5000, "a\0"):
        assert faults({"conversations": text}, "msagent_react") == told
    assert faults({"conversations": "{'a': 1}"}, "msagent_react") == [
        "conversations is an object; it has to be a list of at least one message"
    ]


def test_pretrain_is_a_text_without_blank_edges():
    assert read({"text": " a\nb \n"}, Shape("pretrain")) == ({"text": "a\nb"}, [])
    assert faults({"text": " \n"}, "pretrain") == ["text is empty, so there is nothing to learn"]
    assert faults({}, "pretrain") == ["the row has no text"]


def test_turns_of_xtuners_own_form_may_be_kept_from_training():
    row = {"conversation": [{"input": "", "output": "a", "output_with_loss": False}, {"system": None, "input": "b", "output": "c"}]}
    conversation, problems = read(row, Shape("conversation"))
    assert not problems
    assert conversation["messages"] == [
        {"role": "assistant", "content": "a", "train": False},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "c"},
    ]


@pytest.mark.parametrize(
    ("turn", "told"),
    [
        ("a", "conversation[0] is text; it has to be an object with input and output"),
        ({"input": "a"}, "conversation[0].output is null; it has to be text"),
        ({"output": "a", "output_with_loss": 1}, "conversation[0].output_with_loss is 1; it has to be true or false"),
        ({"output": "a", "sep": "\n"}, "conversation[0].sep says how turns end, which the chat template does here"),
        ({"output": "a", "need_eos_token": False}, "conversation[0].need_eos_token says how turns end, which the chat template does here"),
        ({"output": "a", "mood": 1}, "conversation[0].mood is not understood, and would be lost"),
    ],
)
def test_what_xtuners_own_form_does_not_know_is_told(turn, told):
    assert faults({"conversation": [turn]}, "conversation") == [told]


MOSS = {
    "Human": "<|Human|>: Who is he?<eoh>\n",
    "Inner Thoughts": "<|Inner Thoughts|>: I should look.<eot>\n",
    "Commands": '<|Commands|>: Search("him"), Calculate("1+2")<eoc>\n',
    "Tool Responses": "<|Results|>:\nSearch => him<eor>\n",
    "MOSS": "<|MOSS|>: He is he.<eom>\n",
}


def test_moss_thinks_calls_and_answers():
    plain = {**MOSS, **{key: f"<|{key}|>: None<eot>\n" for key in ("Inner Thoughts", "Commands", "Tool Responses")}}
    conversation, problems = read({"meta_instruction": "You are MOSS.\n", "chat": {"turn_1": MOSS, "turn_2": plain}}, Shape("moss"))
    assert not problems
    calls = [("Search", {"query": "him"}), ("Calculate", {"expression": "1+2"})]
    assert conversation["messages"] == [
        {"role": "system", "content": "You are MOSS.\n"},
        {"role": "user", "content": "Who is he?"},
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "I should look.",
            "tool_calls": [{"type": "function", "function": {"name": name, "arguments": arguments}} for name, arguments in calls],
        },
        {"role": "tool", "content": "Search => him"},
        {"role": "assistant", "content": "He is he."},
        {"role": "user", "content": "Who is he?"},
        {"role": "assistant", "content": "He is he."},
    ]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"chat": []}, "chat is a list; it has to be an object of turns: turn_1, turn_2, …"),
        (
            {"chat": {"turn_1": "x"}},
            "chat.turn_1 is text; it has to be an object with Human, Inner Thoughts, Commands, Tool Responses, MOSS",
        ),
        ({"chat": {"turn_1": {**MOSS, "Mood": "x"}}}, "chat.turn_1.Mood is not understood, and would be lost"),
        ({"chat": {"turn_1": {**MOSS, "MOSS": 3}}}, "chat.turn_1.MOSS is 3; it has to be text"),
        ({"chat": {"turn_1": {**MOSS, "Commands": "look it up"}}}, "chat.turn_1.Commands is no list of calls with one text each"),
    ],
)
def test_what_moss_does_not_know_is_told(row, told):
    assert faults(row, "moss")[0] == told
