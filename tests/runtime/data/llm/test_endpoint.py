"""What an endpoint does wrong, and what becomes of it."""

from __future__ import annotations

import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from runtime.data.llm.request import estimated
from runtime.faults import RunFault
from tests.llm_stand_in import body, break_off, reply, stall, status

THREE = [(f"What of {topic}?", f"Answer to: Write about {topic}.") for topic in ("tea", "jam", "oats")]


def test_a_request_is_what_openai_describes(endpoint, source, ask):
    ask(source(topics=("tea",)))
    (sent,) = endpoint.bodies
    assert 0 <= sent.pop("seed") < 2**31
    assert sent == {
        "model": "writer",
        "messages": [{"role": "user", "content": "Write about tea."}],
        "temperature": 0.8,
        "top_p": 0.9,
        "max_tokens": 50,
    }


def test_rows_come_in_the_order_of_the_prompts_whatever_comes_first(endpoint, source, ask):
    def slow_at_first(body):
        time.sleep(0.1 if "tea" in body["messages"][0]["content"] else 0)
        return f"Answer to: {body['messages'][0]['content']}"

    endpoint.answer = slow_at_first
    assert ask(source(concurrency=3)).pairs == THREE


def test_requests_are_under_way_together_and_never_more_than_concurrency(endpoint, source, ask):
    endpoint.answer = lambda body: time.sleep(0.1) or "Yes."
    started = time.monotonic()
    ask(source(topics=tuple(range(12)), concurrency=4, unique=False))
    assert endpoint.most_at_once == 4
    assert time.monotonic() - started < 0.9  # 1.2 s one after another


FAULTS = {
    "fails": status(500, {"error": {"message": "out of memory"}}),
    "is overloaded": status(503, b"<html>busy</html>", Retry_After="0.01"),
    "limits the rate": status(429, {"error": {"message": "slow down"}}, Retry_After="0.01"),
    "breaks off": break_off,
    "sends no JSON": body(b'{"choices": [{"mess'),
    "sends another thing": body(b'{"object": "list", "data": []}'),
    "sends a list": body(b"[]"),
    "packs nothing as it says": lambda handler: handler.send(200, b"{}", [("Content-Encoding", "gzip")]),
    "sends content in parts": body(b'{"choices": [{"message": {"content": [{"type": "text", "text": "Hi"}]}}]}'),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_request_is_sent_again_where_the_endpoint(fault, endpoint, source, ask):
    endpoint.faults = [fault, fault]
    asked = ask(source())
    assert asked.pairs == THREE
    assert len(endpoint.bodies) == 5
    assert endpoint.bodies[0] == endpoint.bodies[2]
    assert "3 asked · 2 sent again" in asked.said[0]


def test_an_endpoint_that_stalls_is_asked_again_after_timeout_s(endpoint, source, ask):
    endpoint.faults = [stall]
    assert ask(source(timeout_s=0.2)).pairs == THREE
    assert len(endpoint.bodies) == 4


@pytest.mark.parametrize("wait", ["1", "date"])
def test_retry_after_is_waited_for_by_all_requests(wait, endpoint, source, ask):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    endpoint.faults = [status(429, {}, Retry_After="0.5" if wait == "1" else date)]
    started = time.monotonic()
    assert ask(source()).pairs == THREE
    assert time.monotonic() - started > 0.45


def test_a_wait_of_hours_ends_the_run(endpoint, source, ask, fault_of):
    endpoint.faults = [status(429, {"error": {"message": "daily quota"}}, Retry_After="7200")]
    assert fault_of(ask, source()) == (
        f"error SG483: {endpoint.url} gives no answer: asked once, 429 Too Many Requests: daily quota; "
        "it asks to wait 7,200 seconds\n  hint: what was answered is kept: the next run asks only for the rest"
    )


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (status(500, {"error": {"message": "out of memory"}}), "500 Internal Server Error: out of memory"),
        (status(502, b""), "502 Bad Gateway"),
        (status(500, {"detail": "no worker"}), "500 Internal Server Error: no worker"),
        (status(500, {"error": "no worker"}), "500 Internal Server Error: no worker"),
        (break_off, "the connection broke (RemoteProtocolError)"),
        (lambda handler: handler.send(200, b"{}", [("Content-Encoding", "gzip")]), "the connection broke (DecodingError)"),
        (body(b"hello"), "the response is no chat completion"),
    ],
)
def test_an_endpoint_that_never_answers_ends_the_run(fault, why, endpoint, source, ask, fault_of):
    endpoint.answer = lambda _body: fault
    assert fault_of(ask, source()) == (
        f"error SG483: {endpoint.url} gives no answer: asked 3 times, the last time {why}\n"
        "  hint: what was answered is kept: the next run asks only for the rest"
    )
    assert len(endpoint.bodies) == 3


def test_an_endpoint_that_is_not_there_is_named(source, ask, fault_of):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        told = fault_of(ask, source(base_url=url, retries=0))
    assert told.startswith(f"error SG483: {url} gives no answer: asked once, no connection (")


NAMED = "api_key_env: NAME names the environment variable that holds it"
VALID = "set WRITER_KEY to a key that is valid there and may use writer"
MODELS = "{url}/models lists what it has; base_url ends before /chat/completions, often with /v1"
REFUSED = "{url} refuses the request for writer: "
REFUSALS = [
    (
        401,
        "bad key",
        None,
        "{url} wants a key: 401 Unauthorized: bad key",
        "api_key_env: NAME names the environment variable that holds it",
    ),
    (401, "bad key", "WRITER_KEY", "{url} refuses the key in WRITER_KEY: 401 Unauthorized: bad key", VALID),
    (403, "", "WRITER_KEY", "{url} refuses the key in WRITER_KEY: 403 Forbidden", VALID),
    (404, "no writer", None, "{url} has no model writer: 404 Not Found: no writer", MODELS),
    (400, "bad schema", None, REFUSED + "400 Bad Request: bad schema", None),
    (429, {"error": {"message": "no money", "code": "insufficient_quota"}}, None, REFUSED + "429 Too Many Requests: no money", None),
    (307, "", None, REFUSED + "307 Temporary Redirect", "base_url has to be where it leads"),
]


@pytest.mark.parametrize(("code", "content", "env", "message", "hint"), REFUSALS)
def test_what_will_not_get_better_ends_the_run_at_once(code, content, env, message, hint, endpoint, source, ask, fault_of, monkeypatch):
    monkeypatch.setenv("WRITER_KEY", "k-123456")
    endpoint.answer = lambda _body: status(code, content.encode() if isinstance(content, str) else content)
    expected = f"error SG482: {message.format(url=endpoint.url)}" + (f"\n  hint: {hint.format(url=endpoint.url)}" if hint else "")
    assert fault_of(ask, source(api_key_env=env)) == expected
    assert len(endpoint.bodies) == 1


def test_after_a_fault_nothing_more_is_sent_and_what_was_under_way_is_kept(endpoint, source, ask):
    def one_is_refused(body):
        if "jam" in body["messages"][0]["content"]:
            return status(400, {})
        time.sleep(0.1)
        return "Yes."

    endpoint.answer = one_is_refused
    with pytest.raises(RunFault):
        ask(source(topics=("tea", "jam", *range(20)), concurrency=2))
    assert len(endpoint.bodies) == 2
    endpoint.answer = lambda _body: "No."
    assert ask(source(topics=("tea",))).pairs == [("What of tea?", "Yes.")]
    assert len(endpoint.bodies) == 2


def test_a_model_that_knows_only_max_completion_tokens_gets_that(endpoint, source, ask):
    said = {"error": {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."}}
    endpoint.answer = lambda body: status(400, said) if "max_tokens" in body else "Yes."
    assert len(ask(source(unique=False, concurrency=3)).pairs) == 3
    assert endpoint.bodies[-1]["max_completion_tokens"] == 50


@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_key_that_is_not_set_is_asked_for_before_anything_is_sent(value, endpoint, source, ask, fault_of, monkeypatch):
    monkeypatch.delenv("WRITER_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("WRITER_KEY", value)
    assert fault_of(ask, source(api_key_env="WRITER_KEY")) == (
        "error SG481: the environment variable WRITER_KEY, which api_key_env names, is not set\n"
        "  hint: export WRITER_KEY=…; the spec and its builds never hold a key"
    )
    assert endpoint.bodies == []


def test_a_key_that_cannot_be_sent_is_not_shown(source, ask, fault_of, monkeypatch):
    monkeypatch.setenv("WRITER_KEY", "sécret")
    assert (
        fault_of(ask, source(api_key_env="WRITER_KEY"))
        == "error SG481: the environment variable WRITER_KEY holds characters that no key has"
    )


KEY = "k-5up3r53cr3t-k3y"  # as long as a secret


def test_the_key_is_in_the_header_and_nowhere_else(endpoint, source, ask, monkeypatch, tmp_path, capsys, caplog):
    caplog.set_level("DEBUG")
    monkeypatch.setenv("WRITER_KEY", KEY + "\n")
    endpoint.answer = lambda _body: f"They sent {KEY}."
    asked = ask(source(api_key_env="WRITER_KEY", unique=False))
    assert {headers["Authorization"] for headers in endpoint.headers} == {f"Bearer {KEY}"}
    assert asked.pairs[0][1] == "They sent ********."
    assert KEY not in str(endpoint.bodies)
    kept = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(kept) == 3
    assert KEY not in "".join([*kept, *asked.said, *capsys.readouterr(), caplog.text])


def test_the_key_is_not_in_a_message_though_the_endpoint_repeats_it(endpoint, source, ask, fault_of, monkeypatch):
    monkeypatch.setenv("WRITER_KEY", KEY)
    endpoint.answer = lambda _body: status(401, {"error": {"message": f"Incorrect API key provided: {KEY}"}})
    told = fault_of(ask, source(api_key_env="WRITER_KEY"))
    assert "Incorrect API key provided: ********" in told
    assert KEY not in told


@pytest.mark.parametrize("key", ["ollama", "1", "null", "content"])
def test_a_placeholder_of_a_key_changes_no_answer(key, endpoint, source, ask, monkeypatch):
    monkeypatch.setenv("WRITER_KEY", key)
    endpoint.answer = lambda _body: f"1. Say {key}: ollama, null, content."
    assert ask(source(topics=("tea",), api_key_env="WRITER_KEY")).pairs == [("What of tea?", f"1. Say {key}: ollama, null, content.")]


def test_tokens_are_what_the_endpoint_says_or_a_quarter_of_the_characters(endpoint, source, ask):
    assert ask(source(topics=("tea",))).said == ["data made: 1 prompts → 1 rows · 1 asked · 15 tokens"]
    endpoint.usage = False
    asked = ask(source(topics=("jam",)))
    messages, answer = '[{"role": "user", "content": "Write about jam."}]', "Answer to: Write about jam."
    assert asked.said == [f"data made: 1 prompts → 1 rows · 1 asked · {-(-len(messages) // 4) - (-len(answer) // 4)} tokens"]


def test_characters_beyond_ascii_are_reckoned_as_a_token_each():
    assert [estimated(text) for text in ("", "abcde", "写一个问题", "ab写cd")] == [0, 2, 5, 2]


def test_a_refusal_is_no_answer(endpoint, source, ask, fault_of):
    endpoint.answer = lambda _body: reply(None, refusal="I cannot help.")
    assert "The first: the model refuses to answer: 'I cannot help.'" in fault_of(ask, source())
