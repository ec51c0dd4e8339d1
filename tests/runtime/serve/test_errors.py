"""What is wrong with a request is told in OpenAI's form, with the field, and with what instead."""

from __future__ import annotations

import dataclasses

import httpx2
import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from runtime.tokens.text_format import TextFormat

USER = {"role": "user", "content": "Count 1."}
ASKED = {"model": "tiny", "messages": [USER]}
TOOL = {"type": "function", "function": {"name": "weather"}}
CALL = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
IMAGE = {"type": "image_url", "image_url": {"url": "http://127.0.0.1/a.png"}}
ONLY_TEXT = "this model reads text: only parts of the type 'text' can be in content"
REFUSED = {
    "n": ({"n": 2}, "n", "unsupported_value", "n: one answer is made a request; ask again with another seed for another"),
    "logprobs": ({"logprobs": True}, "logprobs", "unsupported_value", "logprobs: the probabilities of tokens are not given out"),
    "logit_bias": ({"logit_bias": {"5": 1}}, "logit_bias", "unsupported_value", "logit_bias: single tokens cannot be weighted here"),
    "a penalty": (
        {"presence_penalty": 0.5}, "presence_penalty", "unsupported_value",
        "presence_penalty: it is not worked out here and only 0 is taken; repetition_penalty is",
    ),
    "response_format": (
        {"response_format": {"type": "json_object"}}, "response_format.type", "unsupported_value",
        "response_format: only {'type': 'text'} can be promised: nothing holds this model to JSON. Ask for JSON in words, and check it",
    ),
    "tool_choice": (
        {"tools": [TOOL], "tool_choice": "required"}, "tool_choice", "unsupported_value",
        "tool_choice: 'auto' and 'none' are taken: nothing holds this model to a call",
    ),
    "functions": ({"functions": []}, "functions", "unsupported_value", "functions: write tools, which took its place"),
    "an unknown field": ({"tempreature": 1}, "tempreature", "unknown_parameter", "tempreature is not known here, and would have no effect"),
    "a wrong type": ({"temperature": "hot"}, "temperature", "invalid_value", "temperature has to be a number"),
    "too hot": ({"temperature": 3}, "temperature", "invalid_value", "temperature: input should be less than or equal to 2"),
    "no tokens": ({"max_tokens": 0}, "max_tokens", "invalid_value", "max_tokens: input should be greater than or equal to 1"),
    "two lengths": (
        {"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens", "invalid_value",
        "max_tokens is the older name of max_completion_tokens, and they say different things: give one of them",
    ),
    "an empty stop": ({"stop": ""}, "stop", "invalid_value", "stop is empty"),
    "an empty stop among others": ({"stop": ["END", ""]}, "stop[1]", "invalid_value", "stop[1] is empty"),
    "five stops": ({"stop": ["a"] * 5}, "stop", "invalid_value", "stop takes 4 at most, not 5"),
    "a stop of numbers": ({"stop": 5}, "stop", "invalid_value", "stop has to be a text or a list"),
    "stops of numbers": ({"stop": ["END", 5]}, "stop[1]", "invalid_value", "stop[1] has to be a text"),
    "usage without a stream": (
        {"stream_options": {"include_usage": True}}, "stream_options", "invalid_value", "stream_options goes with stream: true",
    ),
    "a choice without tools": ({"tool_choice": "auto"}, "tool_choice", "invalid_value", "tool_choice goes with tools"),
    "tools that are not heard": (
        {"tools": [TOOL]}, "tools", "unsupported_value",
        "the chat template of this model leaves tools out, so it would never know of them",
    ),
    "no messages": ({"messages": []}, "messages", "invalid_value", "messages is empty"),
    "messages in words": ({"messages": "Hi"}, "messages", "invalid_value", "messages has to be a list"),
    "an unknown role": (
        {"messages": [{"role": "robot", "content": "Hi"}]}, "messages[0]", "invalid_value",
        "messages[0]: input tag 'robot' found using 'role' does not match any of the expected tags: "
        "'system', 'developer', 'user', 'assistant', 'tool'",
    ),
    "no content": (
        {"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter", "messages[0].content is missing",
    ),
    "content of numbers": (
        {"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "invalid_value",
        "messages[0].content has to be a text or a list",
    ),
    "content without parts": (
        {"messages": [{"role": "user", "content": []}]}, "messages[0].content", "invalid_value", "messages[0].content is empty",
    ),
    "a part in words": (
        {"messages": [{"role": "user", "content": ["Hi"]}]}, "messages[0].content[0]", "invalid_value",
        "messages[0].content[0] has to be an object",
    ),
    "a part without its text": (
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text", "missing_required_parameter",
        "messages[0].content[0].text is missing",
    ),
    "a message in words": ({"messages": ["Hi"]}, "messages[0]", "invalid_value", "messages[0] has to be an object"),
    "a key that is called as a role": (
        {"messages": [{**USER, "user": "me"}]}, "messages[0].user", "unknown_parameter",
        "messages[0].user is not known here, and would have no effect",
    ),
    "an image": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "See:"}, IMAGE]}]}, "messages[0].content", "invalid_value",
        f"messages[0].content: {ONLY_TEXT}",
    ),
    "an assistant that says nothing": (
        {"messages": [USER, {"role": "assistant"}]}, "messages[1].content", "invalid_value",
        "messages[1]: content or tool_calls has to be there",
    ),
    "an answer to no call": (
        {"messages": [USER, {"role": "tool", "content": "rain", "tool_call_id": "c"}]}, "messages[1].tool_call_id", "invalid_value",
        "messages[1] answers the call 'c', and no message of the assistant before it makes that",
    ),
    "arguments that are no object": (
        {"messages": [USER, {"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f", "arguments": "[1"}}]}]},
        "messages[1].tool_calls[0].function.arguments", "invalid_value",
        "messages[1].tool_calls[0].function.arguments has to be a JSON object, as text",
    ),
    "calls that are not heard": (
        {"messages": [USER, {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "content": "", "tool_call_id": "c"}]},
        "messages", "unsupported_value",
        "the chat template of this model leaves tool calls out, so it would never know of them",
    ),
}  # fmt: skip


def post(server, **options):
    told = httpx2.post(f"{server.url}/chat/completions", timeout=60, **options)
    error = told.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["type"] == "invalid_request_error"
    return told.status_code, error


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_honoured_is_refused_with_the_field_and_the_reason(server, what):
    given, param, code, message = REFUSED[what]
    status, error = post(server, json={**ASKED, **given})
    assert (status, error["message"]) == (400, message)
    assert (error["code"], error["param"]) == (code, param)


def test_half_a_surrogate_pair_is_refused_wherever_it_stands(server):
    for body in (
        r'{"model": "tiny", "messages": [{"role": "user", "content": "\ud800"}]}',
        r'{"model": "tiny", "messages": [{"role": "user", "content": "a"}], "stop": "\ud800"}',
        r'{"model": "tiny", "messages": [{"role": "user", "content": "a"}], "tools": [{"type": "function", "function": '
        r'{"name": "f", "parameters": {"\ud800": 1}}}]}',
        r'{"model": "tiny", "messages": [{"role": "user", "content": "a"}], "\ud800": 1}',
    ):
        assert post(server, content=body, headers={"Content-Type": "application/json"})[0] == 400


def test_another_model_is_not_found_and_not_loaded(client):
    with pytest.raises(NotFoundError) as caught:
        client.chat.completions.create(model="HuggingFaceTB/SmolLM2-135M", messages=[USER])
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert caught.value.body["message"] == "there is no model 'HuggingFaceTB/SmolLM2-135M' here; the one that is served is 'tiny'"
    with pytest.raises(NotFoundError):
        client.models.retrieve("gpt-4o")


def test_a_conversation_that_is_too_long_is_refused_before_anything_is_sent(client):
    long = [{"role": "user", "content": "word " * 600}]
    for given in ({}, {"stream": True}):
        with pytest.raises(BadRequestError) as caught:
            client.chat.completions.create(model="tiny", messages=long, **given)
        assert caught.value.code == "context_length_exceeded"
    with pytest.raises(BadRequestError) as caught:
        client.chat.completions.create(model="tiny", messages=[USER], max_tokens=500)
    number = client.chat.completions.create(model="tiny", messages=[USER], max_tokens=1).usage.prompt_tokens
    wanted = f"this model's context holds 512 tokens; the messages have {number} and 500 for the answer"
    assert (caught.value.code, caught.value.body["message"]) == ("context_length_exceeded", wanted)


def test_what_is_no_json_is_refused(server):
    status, error = post(server, content="{nothing", headers={"Content-Type": "application/json"})
    assert (status, error["code"], error["message"][:24]) == (400, "invalid_json", "the request is not JSON:")
    for content in ("[]", "5", ""):
        assert post(server, content=content, headers={"Content-Type": "application/json"})[0] == 400
    for number in ("NaN", "1e999", "1" * 400, "1" * 5000):
        content = f'{{"model": "tiny", "messages": [{{"role": "user", "content": "a"}}], "temperature": {number}}}'
        assert post(server, content=content, headers={"Content-Type": "application/json"})[0] == 400
    nested = '{"a":' * 200 + "1" + "}" * 200
    tools = f'[{{"type": "function", "function": {{"name": "f", "parameters": {nested}}}}}]'
    content = f'{{"model": "tiny", "messages": [{{"role": "user", "content": "a"}}], "tools": {tools}}}'
    status, error = post(server, content=content, headers={"Content-Type": "application/json"})
    assert (status, error["message"]) == (400, "tools[0].function.parameters is nested deeper than 64")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('{"model": "tiny", "messages": ' + "[" * 100_000, "it is nested too deep"),
        (b'{"model": "tiny\xff"}', "it is not UTF-8"),
        ('{"seed": ' + "1" * 5000 + "}", "it cannot be read"),
    ],
)
def test_json_that_cannot_be_read_is_told_as_such(server, content, why):
    status, error = post(server, content=content, headers={"Content-Type": "application/json"})
    assert (status, error["code"], error["message"]) == (400, "invalid_json", f"the request is not JSON: {why}")


def test_a_page_in_a_browser_cannot_ask_without_leave(server):
    """A form or a simple request of another page comes as text/plain, without a preflight."""
    asked = '{"model": "tiny", "messages": [{"role": "user", "content": "a"}]}'
    assert post(server, content=asked, headers={"Content-Type": "text/plain"})[0] == 400


def test_other_places_and_methods_are_told_in_the_same_form(server):
    for method, path, status, message in (
        ("GET", "/v1/chat/completions", 405, "/v1/chat/completions does not take GET"),
        ("POST", "/v1/completions", 404, "there is nothing at /v1/completions"),
        ("POST", "/load_model", 404, "there is nothing at /load_model"),
    ):
        told = httpx2.request(method, server.address + path)
        assert (told.status_code, told.json()["error"]["message"]) == (status, message)


def test_a_request_of_too_many_bytes_is_refused(server):
    status, error = post(server, content=b" " * (17 * 2**20), headers={"Content-Type": "application/json"})
    assert (status, error["message"]) == (413, "a request may have 16,777,216 bytes")


def test_a_model_of_texts_takes_one_text(serve, talker, tokenizer):
    served = serve(dataclasses.replace(talker, form=TextFormat(tokenizer)))
    client = OpenAI(base_url=served.url, api_key="none", max_retries=0)
    assert client.chat.completions.create(model="tiny", messages=[USER]).choices[0].message.content
    with pytest.raises(BadRequestError, match="trained on text, not on conversations"):
        client.chat.completions.create(model="tiny", messages=[{"role": "system", "content": "Be kind."}, USER])


def test_a_fault_of_ours_is_told_without_its_words(serve, talker, capfd):
    class Broken:
        config, device = talker.model.config, talker.model.device

        def __getattr__(self, _name):
            raise ValueError("something secret")

    served = serve(dataclasses.replace(talker, model=Broken()))
    told = httpx2.post(f"{served.url}/chat/completions", json=ASKED)
    assert told.status_code == 500
    wanted = {"message": "the answer could not be made; the server's output says why", "type": "server_error", "param": None, "code": None}
    assert told.json() == {"error": wanted}
    assert "something secret" in capfd.readouterr().err
