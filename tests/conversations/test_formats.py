"""conversations/formats.py: rows of every format, and what is wrong with those that are none."""

from __future__ import annotations

import json
import typing
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conversations.formats import FORMATS, Shape, read, shape_of, wrong_fields
from conversations.row import canonical, conversation_of
from conversations.rows import first_rows, fitting_format, rows_of
from specgen.plan import Format

CASES = Path(__file__).parents[1] / "cases"
HI = {"role": "user", "content": "Hi"}
HELLO = {"role": "assistant", "content": "Hello."}
CALL = {"type": "function", "function": {"name": "sum", "arguments": {"a": 1}}}


def nested(levels):
    value = "x"
    for _ in range(levels):
        value = [value]
    return value


def chat(*messages, **more):
    return {"messages": list(messages), **more}


def turns(columns, form="openai", **shape):
    """(role, content) of each message of a row without faults."""
    conversation, problems = read(columns, shape_of(form, shape.get("fields", {}), shape.get("row")))
    assert not problems, problems
    return [(message["role"], message["content"]) for message in conversation["messages"]]


def faults(columns, form="openai", **shape):
    _, problems = read(columns, shape_of(form, shape.get("fields", {}), shape.get("row")))
    return [problem.text for problem in problems]


def faults_of_file(name, form="openai"):
    """`line: text` of each faulty row of a case file; the number of good ones."""
    found = list(rows_of(str(CASES / name), Shape(form)))
    told = [f"{line}: {problem.text}" for line, problems in found if isinstance(problems, list) for problem in problems]
    return told, sum(isinstance(row, dict) for _, row in found)


def test_the_formats_are_those_of_the_plan():
    assert tuple(FORMATS) == typing.get_args(Format)


def test_o01_two_files_give_the_same_rows():
    marked, plain = ([row for _, row in rows_of(str(CASES / name), Shape("openai"))] for name in ("o01.jsonl", "o01_plain.jsonl"))
    assert len(plain) == 3
    assert [canonical(row) for row in marked] == [canonical(row) for row in plain]


def test_o03_content_that_is_no_text_is_a_fault_of_its_line():
    assert faults_of_file("o03.jsonl") == (
        [
            "2: messages[1].content is null; it has to be text",
            "3: messages[1].content is 8; it has to be text",
            "4: messages[1].content is 1.5; it has to be text",
            "5: messages[1].content is true; it has to be text",
            "6: messages[0].content[0] is text; it has to be an object with type and text",
            "6: messages[0].content[1] is text; it has to be an object with type and text",
            "7: messages[1].content is missing",
        ],
        1,
    )


def test_o03_faults_of_one_kind_have_one_name():
    kinds = [problems[0].kind for _, problems in rows_of(str(CASES / "o03.jsonl"), Shape("openai")) if isinstance(problems, list)]
    assert kinds == [
        "content is null", "content is a number", "content is a number", "content is true or false", "a part is text", "content is missing",
    ]  # fmt: skip


def test_o04_an_unknown_speaker_is_named_with_those_that_are_known():
    told, good = faults_of_file("o04.jsonl", "sharegpt")
    assert good == 2
    assert told == [
        '3: conversations[1].from is "narrator"; it has to be one of system, developer, human, user, prompter, gpt, assistant, model,'
        " bot, chatgpt, bing, function_call, tool_call, observation, tool, tool_response, function"
    ]


def test_o05_an_input_that_says_nothing_is_none():
    rows = json.loads((CASES / "o05.json").read_text())
    assert [turns(row, "alpaca") for row in rows[:4]] == [[("user", "Give one synonym of 'quick'."), ("assistant", "Fast.")]] * 4
    assert turns(rows[4], "alpaca")[0] == ("user", "Translate to French.\nGood evening")


def test_o06_parts_of_text_are_joined_and_other_parts_are_refused_with_their_type():
    found = dict(rows_of(str(CASES / "o06.jsonl"), Shape("openai")))
    assert found[1]["messages"] == [{"role": "user", "content": "Name a planet."}, {"role": "assistant", "content": "Mars."}]
    ((problem),) = found[2]
    assert problem.path == "messages[0].content[0]"
    assert problem.text == "messages[0].content[0] names an image, and model.vision is null, so that the model sees none"


def test_o07_roles_are_what_the_rows_say():
    rows = [row["messages"] for _, row in rows_of(str(CASES / "o07.jsonl"), Shape("openai"))]
    assert [[message["role"][0] for message in row] for row in rows] == [list("uua"), list("uasua"), list("uaa"), list("aua")]


def test_roles_of_openai_are_four():
    row = chat({"role": "developer", "content": "Be brief."}, HI, HELLO, {"role": "function", "content": "3", "name": "sum"}, HELLO)
    assert [role for role, _ in turns(row)] == ["system", "user", "assistant", "tool", "assistant"]


def test_tool_calls_have_their_arguments_as_an_object():
    asked = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", **CALL}], "refusal": None}
    texts = {**CALL, "function": {"name": "sum", "arguments": '{"a": 1}'}}
    row = chat(HI, asked, {"role": "tool", "tool_call_id": "1", "content": "3"}, HELLO, tools=[{"name": "sum", "parameters": {}}])
    conversation, problems = read(row, Shape("openai"))
    assert not problems
    assert conversation["messages"][1] == {"role": "assistant", "content": "", "tool_calls": [{"id": "1", **CALL}]}
    assert conversation["messages"][2] == {"role": "tool", "content": "3", "tool_call_id": "1"}
    assert conversation["tools"] == [{"type": "function", "function": {"name": "sum", "parameters": {}}}]
    for calls in ([texts], [CALL["function"]], [{"type": "function", "function": {"name": "sum", "arguments": {"a": 1}}}]):
        again, problems = read(chat(HI, {"role": "assistant", "tool_calls": calls}), Shape("openai"))
        assert (again["messages"][1]["tool_calls"], problems) == ([CALL], [])
    old, problems = read(chat(HI, {"role": "assistant", "content": None, "function_call": texts["function"]}), Shape("openai"))
    assert (old["messages"][1]["tool_calls"], problems) == ([CALL], [])


def test_tools_may_be_json_text_as_in_columns():
    row = {"messages": json.dumps([HI, HELLO]), "tools": json.dumps([{"type": "function", "function": {"name": "f"}}])}
    assert read(row, Shape("openai")) == (chat(HI, HELLO, tools=[{"type": "function", "function": {"name": "f"}}]), [])


@pytest.mark.parametrize("name", ["train", "training", "loss"])
def test_switches_of_other_tools_are_train(name):
    conversation, problems = read(
        chat(HI, {**HELLO, name: False}, HI, {**HELLO, name: "true" if name == "loss" else True}), Shape("openai")
    )
    assert not problems
    assert [message.get("train") for message in conversation["messages"]] == [None, False, None, True]


def test_keys_of_a_message_come_in_one_order():
    message = {"weight": 2, "train": True, "name": "Aria", "reasoning": "It greets.", "content": "Hello.", "role": "assistant"}
    conversation, problems = read(chat(HI, message), Shape("openai"))
    assert not problems
    assert list(conversation["messages"][1].items()) == [
        ("role", "assistant"), ("content", "Hello."), ("reasoning_content", "It greets."), ("name", "Aria"),
        ("train", True), ("weight", 2.0),
    ]  # fmt: skip
    assert conversation_of(canonical(conversation)) == conversation


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ([HI, HELLO], ["the row is a list; it has to be an object with messages"]),
        ({"turns": []}, ["the row has no messages"]),
        ({"messages": []}, ["messages is an empty list; it has to be a list of at least one message"]),
        ({"messages": "Hi"}, ["messages is text; it has to be a list of at least one message"]),
        ({"messages": None}, ["messages is null; it has to be a list of at least one message"]),
        (chat("Hi", HELLO), ["messages[0] is text; it has to be an object with role and content"]),
        (chat(HI), ["no message is from the assistant, so there is nothing to learn"]),
        (chat(HI, {**HELLO, "train": False}), ["no answer is to be trained, by train or weight, so there is nothing to learn"]),
        (chat(HI, {**HELLO, "weight": 0}), ["no answer is to be trained, by train or weight, so there is nothing to learn"]),
        (chat(HI, {**HELLO, "content": " \n"}), ["messages[1].content is empty, so there is nothing to learn"]),
        (chat(HI, {**HELLO, "content": "\ud800"}), ["messages[1].content holds half a surrogate pair"]),
        (
            chat(HI, {**HELLO, "content": [{"type": "text", "text": " "}]}),
            ["messages[1].content is empty, so there is nothing to learn"],
        ),
        (
            chat(HI, {**HELLO, "content": [{"type": "text", "text": 1}]}),
            ["messages[1].content[0].text is 1; it has to be text"],
        ),
        (chat(HI, {**HELLO, "mood": "glad"}), ["messages[1].mood is not understood, and would be lost"]),
        (
            chat({"role": "narrator", "content": "x"}, HELLO),
            ['messages[0].role is "narrator"; it has to be one of system, developer, user, assistant, tool, function'],
        ),
        (
            chat({"content": "x"}, HELLO),
            ["messages[0].role is missing; it has to be one of system, developer, user, assistant, tool, function"],
        ),
        (chat(HI, {**HELLO, "train": 1}), ["messages[1].train is 1; it has to be true or false"]),
        (chat(HI, {**HELLO, "train": True, "loss": False}), ["messages[1] has train and loss, which say different things"]),
        (chat(HI, {**HELLO, "weight": -1}), ["messages[1].weight is -1; it has to be a number, 0 or more"]),
        (chat(HI, {**HELLO, "weight": True}), ["messages[1].weight is true; it has to be a number, 0 or more"]),
        (chat(HI, {**HELLO, "name": 3}), ["messages[1].name is 3; it has to be text"]),
        (chat(HI, {**HELLO, "tool_calls": {}}), ["messages[1].tool_calls is an object; it has to be a list of calls"]),
        (
            chat(HI, {**HELLO, "tool_calls": [{"function": {"name": "f", "arguments": "{1}"}}]}),
            ["messages[1].tool_calls[0].function.arguments is text that is not JSON"],
        ),
        (
            chat(HI, {**HELLO, "tool_calls": [{"function": {"arguments": "[1]"}}]}),
            [
                "messages[1].tool_calls[0].function.name is null; it has to be text",
                "messages[1].tool_calls[0].function.arguments is a list; it has to be an object, or one as JSON text",
            ],
        ),
        (
            chat(HI, {**HELLO, "tool_calls": [{"type": "code", "name": "f"}]}),
            ['messages[1].tool_calls[0].type is "code"; only function is known'],
        ),
        (chat(HI, HELLO, tools={"a": 1}), ["tools is an object; it has to be a list of tools"]),
        (chat(HI, HELLO, tools=["f"]), ["tools[0] is text; it has to be an object"]),
        (
            chat(HI, {**HELLO, "tool_calls": [{"type": b"code", "name": "f"}]}),
            ["messages[1].tool_calls[0].type is \"b'code'\"; only function is known"],
        ),
        (
            chat({**HI, "content": [{"text": "x"}]}, HELLO),
            ["messages[0].content[0] has no type; only parts of the type text can be trained on"],
        ),
        (
            chat({**HI, "content": [{"type": "text", "text": "x", "mark": 1}]}, HELLO),
            ["messages[0].content[0].mark is not understood, and would be lost"],
        ),
        (chat({**HI, "content": []}, HELLO), ["messages[0].content is a list; it has to be text"]),
    ],
)
def test_a_row_that_is_no_conversation_says_why(row, told):
    assert faults(row) == told


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("\ud800", "holds half a surrogate pair"),
        ({"\ud800": 1}, "holds half a surrogate pair"),
        (b"ab", "holds bytes, which is no value of JSON"),
        ([datetime(2024, 1, 1)], "holds a datetime, which is no value of JSON"),
        (float("nan"), "holds nan, which is no JSON number"),
        (nested(70), "is nested deeper than 64"),
    ],
)
def test_what_no_template_could_write_is_found_inside_of_calls_and_tools(value, why):
    call = {"name": "f", "arguments": {"a": value}}
    assert faults(chat(HI, {**HELLO, "tool_calls": [call]})) == [f"messages[1].tool_calls[0] {why}"]
    assert faults(chat(HI, {**HELLO, "tool_calls": [{"function": call, "id": value}]}))[0] == f"messages[1].tool_calls[0] {why}"
    assert faults(chat(HI, HELLO, tools=[{"name": "f", "parameters": {"a": value}}])) == [f"tools[0] {why}"]


def test_many_braces_are_no_depth():
    parameters = {f"p{number}": {"type": "string"} for number in range(100)}
    assert faults(chat(HI, HELLO, tools=[{"name": "é", "parameters": parameters}])) == []


@pytest.mark.parametrize("column", ["conversations", "conversation", "messages", "dialog", "dialogue"])
@pytest.mark.parametrize(("who", "what"), [("from", "value"), ("role", "content"), ("speaker", "text")])
def test_sharegpt_has_many_names(column, who, what):
    speakers = ["system", "human", "gpt", "prompter", "chatgpt", "user", "Bot", "human", "model", "observation", "bing"]
    row = {column: [{who: speaker, what: "x"} for speaker in speakers]}
    assert "".join(role[0] for role, _ in turns(row, "sharegpt")) == "suauauauata"


def test_sharegpt_calls_are_tool_calls():
    said = [("human", "1 + 2?"), ("function_call", '{"name": "sum", "arguments": {"a": 1}}'), ("observation", "3"), ("gpt", "3.")]
    row = {"conversations": [{"from": who, "value": what} for who, what in said], "system": "Count.", "tools": '[{"name": "sum"}]'}
    conversation, problems = read(row, Shape("sharegpt"))
    assert not problems
    assert conversation["messages"][2] == {"role": "assistant", "content": "", "tool_calls": [CALL]}
    assert [message["role"] for message in conversation["messages"]] == ["system", "user", "assistant", "tool", "assistant"]
    assert conversation["tools"] == [{"type": "function", "function": {"name": "sum"}}]
    row["conversations"][1]["value"] = "sum(1)"
    assert faults(row, "sharegpt") == ["conversations[1].value is not JSON; a call is an object with name and arguments"]


@pytest.mark.parametrize(
    ("row", "form", "told"),
    [
        ({"conversations": ["Hi"]}, "sharegpt", ["conversations[0] is text; it has to be an object with from and value"]),
        ({"conversations": [{"from": "gpt", "value": "x", "image": "a.png"}]}, "sharegpt",
         ["conversations[0].image is not understood, and would be lost"]),
        ({"instruction": "a"}, "alpaca", ["the row has no output"]),
        ({"instruction": None, "output": "b"}, "alpaca", ["instruction is null; it has to be text"]),
        ({"instruction": "a", "input": 3, "output": "b"}, "alpaca", ["input is 3; it has to be text"]),
        ({"instruction": "a", "output": "b", "history": [["x"]]}, "alpaca", ["history has to be a list of [question, answer] pairs"]),
        ({"instruction": "a", "output": "b", "history": [["x", None]]}, "alpaca", ["history[0][1] is null; it has to be text"]),
        ({"prompt": "a", "completion": " "}, "completion", ["completion is empty, so there is nothing to learn"]),
        ({"text": ""}, "text", ["text is empty, so there is nothing to learn"]),
        ({"text": 3}, "text", ["text is 3; it has to be text"]),
        ({"content": "a"}, "text", ["the row has no text"]),
        ("a", "alpaca", ["the row is text; it has to be an object with instruction and output"]),
    ],
)  # fmt: skip
def test_rows_of_the_other_formats_say_why(row, form, told):
    assert faults(row, form) == told


def test_alpaca_has_a_history_and_a_system_text():
    row = {"instruction": "c", "input": "", "output": "d", "history": [["a", "b"]], "system": "s"}
    assert turns(row, "alpaca") == [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]


def test_a_completion_may_be_messages_of_which_the_last_are_learned():
    row = {"prompt": [HI, HELLO, HI], "completion": [HELLO]}
    conversation, problems = read(row, Shape("completion"))
    assert not problems
    assert [message.get("train") for message in conversation["messages"]] == [None, False, None, None]


def test_a_text_is_a_text():
    assert read({"text": "a\nb", "id": 3}, Shape("text")) == ({"text": "a\nb"}, [])


def test_columns_may_have_other_names():
    assert turns({"dialog": [HI, HELLO]}, fields={"messages": "dialog"}) == [("user", "Hi"), ("assistant", "Hello.")]
    row = {"question": "a", "answer": "b"}
    assert turns(row, "alpaca", fields={"instruction": "question", "output": "answer"}) == [("user", "a"), ("assistant", "b")]
    assert faults({"dialog": [HI, {"role": "assistant", "content": None}]}, fields={"messages": "dialog"}) == [
        "dialog[1].content is null; it has to be text"
    ]
    assert faults({"messages": [HI, HELLO]}, fields={"messages": "dialog"}) == ["the row has no dialog"]
    assert wrong_fields(Shape("alpaca", (("instruction", "q"), ("outptu", "a")))) == ["outptu"]


ASK = [{"system": "{{ about }}"}, {"user": "{{ q | trim }}?"}, {"assistant": "{{ a if a else 'No.' }}"}]


def test_a_row_template_makes_turns_of_columns():
    assert turns({"q": " Is it", "a": "Yes.", "about": "Be brief."}, row=ASK) == [
        ("system", "Be brief."), ("user", "Is it?"), ("assistant", "Yes."),
    ]  # fmt: skip
    assert turns({"q": "Is it", "a": None, "about": ""}, row=ASK) == [("user", "Is it?"), ("assistant", "No.")]
    assert turns({"the q": "a"}, row=[{"user": "{{ row['the q'] }}\r\n"}, {"assistant": "b\r\n"}])[1] == ("assistant", "b\r\n")


def test_a_row_template_may_render_json_of_the_format():
    text = '{"messages": {{ turns | tojson }}, "tools": {{ t | tojson }}}'
    assert turns({"turns": [HI, {**HELLO, "content": "<&'\"é\n"}], "t": None}, row=text)[1] == ("assistant", "<&'\"é\n")
    assert faults({"turns": [HI, {**HELLO, "content": None}], "t": None}, row=text) == ["messages[1].content is null; it has to be text"]


@pytest.mark.parametrize(
    ("columns", "row", "told"),
    [
        ({"q": "x"}, [{"user": "{{ question }}"}, {"assistant": "y"}],
         "row[0].user does not render: 'question' is undefined; the columns are q"),
        ({"q": None}, [{"user": "{{ q }}"}, {"assistant": "y"}], "row[0].user writes null as text; | tojson writes it as JSON"),
        ({"q": ["x"]}, [{"user": "{{ q }}"}, {"assistant": "y"}], "row[0].user writes a list as text; | tojson writes it as JSON"),
        ({"q": True}, [{"user": "{{ q }}"}, {"assistant": "y"}], "row[0].user writes true as text; | tojson writes it as JSON"),
        ({"q": ""}, [{"user": "x"}, {"assistant": "{{ q }}"}], "row[1].assistant renders to nothing, so there is nothing to learn"),
        ({"q": "x"}, [{"user": "{{ q }}"}], "no message is from the assistant, so there is nothing to learn"),
        ({"q": "x"}, [{"user": "{{ q.__class__ }}"}, {"assistant": "y"}],
         "row[0].user does not render: access to attribute '__class__' of 'str' object is unsafe."),
        ({"q": "x"}, '{"messages": {{ q }}}',
         "row does not render to JSON: Expecting value at line 1 column 14; write {{ column | tojson }}"),
        ({"q": "x"}, '{"messages": [], "messages": []}', 'row does not render to JSON: an object has the key "messages" twice'),
        (["x"], "{}", "the row is a list; it has to be an object, whose columns the template names"),
    ],
)  # fmt: skip
def test_a_row_template_that_does_not_fit_says_why(columns, row, told):
    assert faults(columns, row=row) == [told]


def test_a_number_in_a_row_template_is_text():
    assert turns({"n": 3}, row=[{"user": "{{ n }} + 1?"}, {"assistant": "{{ n + 1 }}"}]) == [("user", "3 + 1?"), ("assistant", "4")]


def test_the_format_of_other_rows_is_found():
    assert fitting_format(first_rows(str(CASES / "o04_good.jsonl")), "openai") == "sharegpt"
    assert fitting_format(first_rows(str(CASES / "o05.json")), "openai") == "alpaca"
    assert fitting_format(first_rows(str(CASES / "o03.jsonl")), "sharegpt") is None
    assert fitting_format([], "openai") is None


SCALAR = st.sampled_from([None, True, 0, 1.5, float("inf"), "", " ", "Hi.", "user", "assistant", "human", "gpt", "\ud800", "[1]", "{"])
NAMES = sorted({column for form in FORMATS.values() for column in (*form.needs, *form.may)})
NAMES += [
    "role",
    "content",
    "from",
    "value",
    "input",
    "output",
    "train",
    "weight",
    "tool_calls",
    "function",
    "type",
    "text",
    "turn_1",
    "MOSS",
]
VALUE = st.recursive(SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4))


@settings(max_examples=300, deadline=None)
@given(form=st.sampled_from(list(FORMATS)), row=VALUE, data=st.data())
def test_any_row_is_read_or_refused_and_what_is_read_is_text(form, row, data):
    if isinstance(row, dict):
        row = {**row, **{column: data.draw(VALUE) for column in FORMATS[form].needs}}
    conversation, problems = read(row, Shape(form))
    if problems:
        assert all(problem.kind and problem.text for problem in problems)
        return
    assert conversation_of(canonical(conversation)) == conversation
    texts = [conversation["text"]] if "text" in conversation else [message["content"] for message in conversation["messages"]]
    assert all(isinstance(text, str) and text.encode() is not None for text in texts)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"role": st.sampled_from(["system", "user", "assistant"]), "content": TEXT | st.none()}, optional={"x": st.just(1)}
        ),
        max_size=4,
    )
)
def test_the_short_way_through_plain_messages_is_the_long_one(messages):
    plain = read(chat(*messages), Shape("openai"))
    assert plain == read(chat(*messages, tools=None), Shape("openai"))
