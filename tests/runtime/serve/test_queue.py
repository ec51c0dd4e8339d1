"""Many clients at once: each gets its own answer; those who go away end theirs; the rest take turns."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import socket
import time

import httpx2
import pytest
from openai import APIError, AsyncOpenAI, OpenAI, RateLimitError

WORDS = ["red", "blue", "green", "one", "two", "three", "cats", "dogs", "sun", "moon"]


def question(number):
    return [{"role": "user", "content": f"Tell me about {WORDS[number % 10]} and {WORDS[number // 10]}."}]


def until(true, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_fifty_clients_at_once_each_get_the_answer_that_they_would_get_alone(server, talker):
    """Every other one is sampled by a seed of its own: answers differ, so that a mix-up would be seen."""
    heat = [1.0 if number % 2 else 0.0 for number in range(50)]
    settings = [dataclasses.replace(talker.chat, temperature=heat[number], seed=number) for number in range(50)]
    alone = [talker.answer(question(number), chat=settings[number]).text for number in range(50)]
    assert len(set(alone)) > 25

    async def ask(client, number):
        asked = {"model": "tiny", "messages": question(number), "temperature": heat[number], "seed": number}
        if number % 3:
            done = await client.chat.completions.create(**asked, user=str(number % 7))
            return done.choices[0].message.content
        stream = await client.chat.completions.create(**asked, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def all_at_once():
        async with AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0, timeout=120) as client:
            return await asyncio.gather(*(ask(client, number) for number in range(50)))

    assert asyncio.run(all_at_once()) == alone


def test_samples_are_the_same_alone_and_among_others(server, talker):
    hot = dataclasses.replace(talker.chat, temperature=1.2)
    alone = [talker.answer(question(0), chat=dataclasses.replace(hot, seed=seed)).text for seed in range(8)]

    async def all_at_once():
        async with AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
            asked = [client.chat.completions.create(model="tiny", messages=question(0), temperature=1.2, seed=seed) for seed in range(8)]
            return [done.choices[0].message.content for done in await asyncio.gather(*asked)]

    assert asyncio.run(all_at_once()) == alone and len(set(alone)) > 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_ends_its_answer(serve, spelled, stream):
    talker = spelled("word " * 400, seconds_a_token=0.02)
    served = serve(talker)

    async def leave():
        async with AsyncOpenAI(base_url=served.url, api_key="none", max_retries=0) as client:
            asked = client.chat.completions.create(model="spelling", messages=question(0), stream=stream, max_tokens=400)
            if stream:
                chunks = await asked
                async for _ in chunks:
                    break
                await chunks.close()
            else:
                task = asyncio.create_task(asked)
                await asyncio.to_thread(until, lambda: talker.model.written > 2)
                task.cancel()

    asyncio.run(leave())
    until(lambda: not served.desk.busy)
    assert talker.model.written < 200
    assert OpenAI(base_url=served.url, api_key="none").chat.completions.create(model="spelling", messages=question(0), max_tokens=2)


def test_one_that_waits_and_goes_away_is_never_begun(serve, spelled):
    talker = spelled("word " * 60, seconds_a_token=0.02)
    served = serve(talker)

    async def ask():
        async with AsyncOpenAI(base_url=served.url, api_key="none", max_retries=0) as client:
            create = client.chat.completions.create
            first = asyncio.create_task(create(model="spelling", messages=question(0), max_tokens=60))
            await asyncio.to_thread(until, lambda: served.desk.busy)
            second = asyncio.create_task(create(model="spelling", messages=question(1), max_tokens=60))
            await asyncio.to_thread(until, lambda: served.desk.waiting == 1)
            second.cancel()
            await asyncio.to_thread(until, lambda: served.desk.waiting == 0)
            return await first

    assert asyncio.run(ask()).usage.completion_tokens == 60
    until(lambda: not served.desk.busy)
    assert talker.model.written == 60


def test_one_who_asks_much_does_not_keep_another_waiting(serve, spelled):
    served = serve(spelled("word " * 20, seconds_a_token=0.005))
    order = []

    async def ask(client, user):
        await client.chat.completions.create(model="spelling", messages=question(0), max_tokens=20, user=user)
        order.append(user)

    async def all_at_once():
        async with AsyncOpenAI(base_url=served.url, api_key="none", max_retries=0) as client:
            much = [asyncio.create_task(ask(client, "much")) for _ in range(8)]
            await asyncio.to_thread(until, lambda: served.desk.waiting == 7)
            await asyncio.gather(ask(client, "little"), *much)

    asyncio.run(all_at_once())
    assert order.index("little") <= 2 and len(order) == 9


def test_more_than_can_wait_are_asked_to_come_again(serve, spelled):
    served = serve(spelled("word " * 40, seconds_a_token=0.02))
    served.desk.most_waiting = 1

    async def ask():
        async with AsyncOpenAI(base_url=served.url, api_key="none", max_retries=0) as client:
            create = client.chat.completions.create
            first = asyncio.create_task(create(model="spelling", messages=question(0), max_tokens=40))
            await asyncio.to_thread(until, lambda: served.desk.busy)
            second = asyncio.create_task(create(model="spelling", messages=question(0), max_tokens=1))
            await asyncio.to_thread(until, lambda: served.desk.waiting == 1)
            with pytest.raises(RateLimitError) as caught:
                await create(model="spelling", messages=question(0))
            assert (await first).usage.completion_tokens == 40 and (await second).usage.completion_tokens == 1
            return caught.value

    error = asyncio.run(ask())
    assert (error.code, error.response.headers["retry-after"]) == ("rate_limit_exceeded", "1")


def test_an_end_tells_those_who_wait_and_those_who_are_answered(serve, spelled):
    served = serve(spelled("word " * 400, seconds_a_token=0.02))
    client = OpenAI(base_url=served.url, api_key="none", max_retries=0)
    chunks = client.chat.completions.create(model="spelling", messages=question(0), stream=True, max_tokens=400)
    next(chunks), next(chunks)
    begun = time.monotonic()
    served.server.should_exit = True
    with pytest.raises(APIError, match="the server is ending"):
        list(chunks)
    served.thread.join(5)
    assert not served.thread.is_alive() and time.monotonic() - begun < 5
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{served.address}/health")


def begun(served, body=b"{", length=1000):
    """A connection on which a request has begun."""
    connection = socket.create_connection(served.server.servers[0].sockets[0].getsockname(), timeout=10)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def test_an_end_does_not_wait_for_the_rest_of_a_request(serve, spelled, capfd):
    served = serve(spelled("word"))
    with begun(served) as connection:
        until(lambda: any(each.cycle for each in served.server.server_state.connections))
        at = time.monotonic()
        served.server.should_exit = True
        served.thread.join(10)
        assert not served.thread.is_alive() and time.monotonic() - at < 2
        head, _, told = connection.makefile("rb").read().decode().partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 503 ")
    error = {"message": "the server is ending", "type": "server_error", "param": None, "code": "server_ending"}
    assert json.loads(told) == {"error": error}
    assert capfd.readouterr().err == ""


def test_an_end_does_not_wait_for_one_who_does_not_read(serve, talker, capfd, monkeypatch):
    """An answer that is larger than what the network keeps for a client."""
    monkeypatch.setattr("runtime.serve.server.SECONDS_TO_READ", 0.5)
    monkeypatch.setattr("runtime.serve.told.Teller.whole", lambda *_: {"text": "x" * 2**26})
    served = serve(talker)
    body = json.dumps({"model": "tiny", "messages": question(0)}).encode()
    with begun(served, body, len(body)):
        until(lambda: any(each.cycle and each.cycle.response_started for each in served.server.server_state.connections))
        at = time.monotonic()
        served.server.should_exit = True
        served.thread.join(10)
        assert not served.thread.is_alive() and time.monotonic() - at < 3
    assert capfd.readouterr().err == ""
