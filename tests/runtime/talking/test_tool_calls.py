"""Tool calls in what a model writes, as a whole and in pieces."""

from __future__ import annotations

import pytest

from runtime.talking.tool_calls import ToolCall, ToolCallStream, names_of, parse

NAMES = {"weather", "add"}
LONDON = ToolCall(name="weather", arguments={"city": "London"})
SUM = ToolCall(name="add", arguments={"a": 1, "b": 2})
ONE = '{"name": "weather", "arguments": {"city": "London"}}'
TWO = '{"name": "add", "arguments": {"a": 1, "b": 2}}'
# as the chat templates of these models render a call
SHAPES = {
    "hermes": (f"<tool_call>\n{ONE}\n</tool_call>", [LONDON]),
    "hermes, two": (f"<tool_call>\n{ONE}\n</tool_call>\n<tool_call>\n{TWO}\n</tool_call>", [LONDON, SUM]),
    "hermes, not closed": (f"<tool_call>\n{ONE}", [LONDON]),
    "qwen coder": (
        "<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n<parameter=b>\n2\n</parameter>\n</function>\n</tool_call>",
        [SUM],
    ),
    "qwen coder, text": ("<tool_call>\n<function=weather>\n<parameter=city>\nLondon\n</parameter>\n</function>\n</tool_call>", [LONDON]),
    "llama 3.1, a name in the mark": ('<function=weather>{"city": "London"}</function>', [LONDON]),
    "llama 3": ('{"name": "weather", "parameters": {"city": "London"}}', [LONDON]),
    "llama 3, python tag": (f"<|python_tag|>{ONE}; {TWO}<|eom_id|>", [LONDON, SUM]),
    "mistral": (f"[TOOL_CALLS] [{ONE}, {TWO}]", [LONDON, SUM]),
    "mistral, new": ('[TOOL_CALLS]weather[ARGS]{"city": "London"}', [LONDON]),
    "mistral, without its special token": (f"[{ONE}]", [LONDON]),
    "internlm2": (f"<|action_start|><|plugin|>\n{ONE}<|action_end|>\n", [LONDON]),
    "internlm2, without its special tokens": (f"\n{ONE}\n", [LONDON]),
    "openai": ('{"type": "function", "function": {"name": "weather", "arguments": "{\\"city\\": \\"London\\"}"}}', [LONDON]),
}
NO_CALLS = [
    "It is 4.",
    '{"name": "Aria", "age": 3}',
    '{"name": "unknown", "arguments": {}}',
    "<tool_call>\nsomething else\n</tool_call>",
    '<tool_call>\n{"name": "weather", "arguments": {"city": "Lon',
    '{"name": "weather", "arguments": {"city": "London"}} is how one would ask.',
    'I would write {"name": "weather", "arguments": {}} here.',
    "a < b, a <tool, [TOOL] and\n[1] a note\n{x}\n",
    "[" * 200_000,
    '{"a":' * 50_000,
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("before", ["", "I will look.\n", "I will look. "])
def test_calls_are_read_in_the_shapes_of_known_families(shape, before):
    text, calls = SHAPES[shape]
    if before.endswith(" ") and text.startswith(("{", "[{")):
        text = f"\n{text}"
    assert parse(before + text, NAMES).calls == tuple(calls)
    assert parse(before + text, NAMES).text == before.rstrip()


@pytest.mark.parametrize("text", NO_CALLS, ids=range(len(NO_CALLS)))
def test_what_is_no_call_of_a_tool_that_was_offered_stays_text(text):
    assert parse(text, NAMES) == parse(text, ()) and parse(text, NAMES).text == text


def test_text_around_calls_is_kept():
    spoken = parse(f"First.\n\n<tool_call>{ONE}</tool_call>\n\nThen.\n<tool_call>{TWO}</tool_call> Done.", NAMES)
    assert (spoken.text, spoken.calls) == ("First.\nThen.\nDone.", (LONDON, SUM))


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("text", [*(f"I look.\n{text}" for text, _ in SHAPES.values()), *NO_CALLS[:-2]])
def test_a_stream_shows_the_text_and_no_piece_of_a_call(text, size):
    stream, shown = ToolCallStream(NAMES), ""
    whole = parse(text, NAMES)
    for at in range(0, len(text), size):
        shown += stream.feed(text[at : at + size])
        assert whole.text.startswith(shown)
    last = stream.flush()
    assert (shown + last.text, last.calls) == (whole.text, whole.calls)


def test_text_without_a_beginning_of_a_call_is_shown_at_once():
    stream = ToolCallStream(NAMES)
    assert [stream.feed(piece) for piece in ("It", " is", " 1 < 2", ".")] == ["It", " is", " 1 < 2", "."]


def test_names_of_tools_are_found_with_and_without_function_around_them():
    assert names_of([{"type": "function", "function": {"name": "a"}}, {"name": "b"}]) == {"a", "b"}
    assert names_of(None) == set()


@pytest.mark.parametrize("value", ['"\\ud83d"', "NaN"])
def test_a_call_that_nobody_could_be_told_again_stays_text(value):
    text = f'<tool_call>\n{{"name": "weather", "arguments": {{"city": {value}}}}}\n</tool_call>'
    assert parse(text, NAMES) == parse(text, ())
    assert parse(text, NAMES).text == text


def test_a_parameter_that_is_no_json_is_text():
    text = "<function=weather>\n<parameter=city>\nNaN\n</parameter>\n</function>"
    assert parse(text, NAMES).calls == (ToolCall(name="weather", arguments={"city": "NaN"}),)
