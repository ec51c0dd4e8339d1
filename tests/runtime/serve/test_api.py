"""The real openai client against a served model: answers, streams, stop texts, seeds, tools."""

from __future__ import annotations

import dataclasses
import json

import httpx2
import pytest
from openai import OpenAI

from runtime.config import ChatConfig

ASKED = [{"role": "user", "content": "Count 1."}]
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
CALL = 'I look.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Zürich"}}\n</tool_call>'


def pieces(client, **asked):
    chunks = list(client.chat.completions.create(stream=True, messages=ASKED, **asked))
    return [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content], chunks


def opened(served):
    return OpenAI(base_url=served.url, api_key="none", max_retries=0, timeout=60)


def test_an_answer_is_the_one_that_the_terminal_chat_gives(client, talker):
    done = client.chat.completions.create(model="tiny", messages=ASKED)
    alone = talker.answer(ASKED)
    choice = done.choices[0]
    assert (choice.message.role, choice.message.content) == ("assistant", alone.text)
    assert choice.finish_reason == ("stop" if alone.stopped else "length") and choice.message.tool_calls is None
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (alone.prompt_tokens, alone.tokens)
    assert done.usage.total_tokens == alone.prompt_tokens + alone.tokens
    assert (done.object, done.model) == ("chat.completion", "tiny") and done.id.startswith("chatcmpl-")


def test_a_stream_is_the_same_answer_in_pieces(client, talker):
    shown, chunks = pieces(client, model="tiny", stream_options={"include_usage": True})
    alone = talker.answer(ASKED)
    assert "".join(shown) == alone.text and len(shown) > 1
    assert chunks[0].choices[0].delta.role == "assistant" and chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == alone.tokens
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in pieces(client, model="tiny")[1])


def test_a_system_text_of_the_settings_is_put_first_and_one_of_the_request_takes_its_place(serve, talker):
    chat = dataclasses.replace(talker.chat, system="Be kind.")
    with_system = dataclasses.replace(talker, chat=chat)
    ask = opened(serve(with_system)).chat.completions.create
    kind, plain = [{"role": "system", "content": "Be kind."}, *ASKED], [{"role": "developer", "content": "Be short."}, *ASKED]
    assert ask(model="tiny", messages=ASKED).choices[0].message.content == talker.answer(kind).text
    told = [{"role": "system", "content": "Be short."}, *ASKED]
    assert ask(model="tiny", messages=plain).choices[0].message.content == talker.answer(told).text


def test_parts_of_text_are_one_text(client, talker):
    parts = [{"role": "user", "content": [{"type": "text", "text": "Count"}, {"type": "text", "text": " 1."}]}]
    assert client.chat.completions.create(model="tiny", messages=parts).choices[0].message.content == talker.answer(ASKED).text


def test_lengths_seeds_and_samples_are_those_of_the_settings(client, talker):
    def ask(**given):
        return client.chat.completions.create(model="tiny", messages=ASKED, **given)

    assert [ask(**{name: 3}).usage.completion_tokens for name in ("max_tokens", "max_completion_tokens")] == [3, 3]
    hot = [ask(temperature=1.5, top_p=0.9, seed=seed, extra_body={"top_k": 40}).choices[0].message.content for seed in (1, 1, 2)]
    assert hot[0] == hot[1] != hot[2]
    settings = dataclasses.replace(talker.chat, temperature=1.5, top_p=0.9, seed=1, top_k=40)
    assert hot[0] == talker.answer(ASKED, chat=settings).text
    assert ask(temperature=1e-9).choices[0].message.content == talker.answer(ASKED).text


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_text_ends_the_answer_and_is_not_in_it(serve, spelled, stream):
    ask = opened(serve(spelled("One, two, three and four."))).chat.completions.create
    for stop, told in (("three", "One, two, "), (["our", " and"], "One, two, three"), ("five", "One, two, three and four.")):
        done = ask(model="spelling", messages=ASKED, stop=stop, stream=stream)
        if stream:
            chunks = list(done)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            reason = chunks[-1].choices[0].finish_reason
        else:
            text, reason = done.choices[0].message.content, done.choices[0].finish_reason
        assert (text, reason) == (told, "stop")


def test_streams_never_show_half_a_character_or_part_of_a_stop_text(serve, spelled, case):
    """Case o25: each event is UTF-8 and JSON."""
    wanted = case("o25")
    ids = wanted["token_ids"]
    served = serve(spelled(ids))
    for stop, text in ((None, wanted["text"]), ("END.", "I like 🙂 and 漢字. ")):
        body = {"model": "spelling", "messages": ASKED, "stream": True, "stop": stop}
        raw = httpx2.post(f"{served.url}/chat/completions", json=body).content
        *events, end = raw.decode("utf-8").strip().split("\n\n")
        assert end == "data: [DONE]" and all(event.startswith("data: ") for event in events)
        shown = [json.loads(event[6:])["choices"][0]["delta"].get("content", "") for event in events]
        assert "".join(shown) == text and not any("\ufffd" in piece or "E" in piece for piece in shown if stop)
        assert not any("\ufffd" in piece for piece in shown)


def test_half_a_character_at_the_end_is_not_shown(serve, spelled, case):
    ids = case("o25")["token_ids"][:6]
    ask = opened(serve(spelled(ids))).chat.completions.create
    shown = "".join(chunk.choices[0].delta.content or "" for chunk in ask(model="spelling", messages=ASKED, stream=True, max_tokens=6))
    assert shown == "I like 🙂 and"


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls_are_told_as_such(serve, spelled, stream):
    ask = opened(serve(spelled(CALL))).chat.completions.create
    done = ask(model="spelling", messages=ASKED, tools=[WEATHER], stream=stream)
    if stream:
        chunks = list(done)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
        reason = chunks[-1].choices[0].finish_reason
    else:
        message, reason = done.choices[0].message, done.choices[0].finish_reason
        text, calls = message.content, message.tool_calls
    assert (text, reason, len(calls)) == ("I look.", "tool_calls", 1)
    assert calls[0].function.name == "weather" and json.loads(calls[0].function.arguments) == {"city": "Zürich"}


def test_a_call_and_its_answer_go_back_to_the_model(serve, spelled):
    talker = spelled("It rains.")
    ask = opened(serve(talker)).chat.completions.create
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Zürich"}'}}
    answer = {"role": "tool", "tool_call_id": "call_1", "content": "rain"}
    told = [*ASKED, {"role": "assistant", "content": None, "tool_calls": [call]}, answer]
    done = ask(model="spelling", messages=told, tools=[WEATHER])
    function = {"name": "weather", "arguments": {"city": "Zürich"}}
    rows = [*ASKED, {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}, told[2]]
    tools = [{"type": "function", "function": {**WEATHER["function"], "description": ""}}]
    assert done.usage.prompt_tokens == len(talker.form.prompt_ids(rows, tools))
    assert done.choices[0].message.content == "It rains."


def test_a_call_in_words_stays_words_where_no_tool_was_offered(serve, spelled):
    ask = opened(serve(spelled(CALL))).chat.completions.create
    for given in ({}, {"tools": [WEATHER], "tool_choice": "none"}):
        choice = ask(model="spelling", messages=ASKED, **given).choices[0]
        assert (choice.message.content, choice.finish_reason) == (CALL, "stop")


def test_the_model_is_listed_and_found(client):
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "specgen"


def test_health_says_that_it_lives(server):
    told = httpx2.get(f"{server.address}/health")
    assert (told.status_code, told.json()) == (200, {"status": "ok", "waiting": 0, "busy": False})


def test_every_setting_of_a_chat_can_be_asked_for():
    from runtime.serve.asked import Asked

    asked_otherwise = {"system": "messages", "max_new_tokens": "max_completion_tokens", "plugins": "tools"}
    assert {asked_otherwise.get(field.name, field.name) for field in dataclasses.fields(ChatConfig)} <= set(Asked.model_fields)
