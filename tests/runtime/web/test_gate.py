"""runtime/web/gate.py: without the token there is nothing but the health endpoint."""

from __future__ import annotations

import asyncio

import pytest

from runtime.web.gate import HEALTH, POLICY, Gate

TOKEN = "correct-horse-battery"


async def app(scope, _receive, send):
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-app", b"yes")]})
    await send({"type": "http.response.body", "body": b"the page"})


def ask(gate, path="/", query="", cookie=None, kind="http", host="here"):
    """What a request is answered with: all messages."""
    headers = [(b"host", host.encode()), *([(b"cookie", cookie.encode())] if cookie else [])]
    scope = {"type": kind, "method": "GET", "path": path, "query_string": query.encode(), "headers": headers}
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "websocket.connect"}

    asyncio.run(gate(scope, receive, send))
    return sent


def status(sent):
    return sent[0]["status"]


def header(sent, name):
    return dict(sent[0]["headers"]).get(name, b"").decode()


@pytest.fixture
def gate():
    return Gate(app, token=TOKEN, cookie="specgen-8501")


@pytest.fixture
def admitted(gate):
    """The cookie that the right token is answered with."""
    return header(ask(gate, query=f"token={TOKEN}"), b"set-cookie").split(";")[0]


@pytest.mark.parametrize(
    ("path", "query", "cookie"),
    [
        ("/", "", None),
        ("/", "token=", None),
        ("/", "token=correct-horse-batterx", None),
        ("/", "token=pr%C3%BCfung", None),
        ("/static/js/index.js", "", None),
        ("/media/answer.json", "", None),
        ("/_stcore/host-config", "", None),
        ("/_stcore/health/", "", None),
        ("//_stcore/health", "", None),
        ("/", "", f"specgen-8501={TOKEN}"),
        ("/", "", "specgen-8501="),
        ("/", "", "specgen-8501=pr\xfcfung"),
        ("/", "", "a\\;=b"),
    ],
)
def test_without_the_token_nothing_is_shown(gate, path, query, cookie):
    sent = ask(gate, path, query, cookie)
    assert status(sent) == 401
    assert (
        sent[1]["body"] == b"this address needs the token: open the address that specgen chat --web has printed, with ?token=\xe2\x80\xa6\n"
    )


def test_a_websocket_without_the_token_is_closed_before_it_is_open(gate):
    assert ask(gate, "/_stcore/stream", kind="websocket") == [{"type": "websocket.close", "code": 1008}]
    assert ask(gate, "/_stcore/stream", query=f"token={TOKEN}", kind="websocket") == [{"type": "websocket.close", "code": 1008}]


def test_the_health_endpoint_is_open(gate):
    assert status(ask(gate, HEALTH)) == 200


def test_the_right_token_is_answered_with_a_cookie_and_an_address_without_it(gate):
    sent = ask(gate, query=f"visitor=a%26b&token={TOKEN}")
    assert status(sent) == 303
    assert header(sent, b"location") == "/?visitor=a%26b"
    cookie = header(sent, b"set-cookie")
    assert cookie.startswith("specgen-8501=") and cookie.endswith("; Path=/; HttpOnly; SameSite=Lax")
    assert TOKEN not in cookie
    assert header(sent, b"cache-control") == "no-store"


def test_a_token_leads_nowhere_but_here(gate):
    assert header(ask(gate, "//example.com/", f"token={TOKEN}"), b"location") == "/"


def test_who_has_the_cookie_gets_everything(gate, admitted):
    assert ask(gate, cookie=f"other=1; {admitted}")[1]["body"] == b"the page"
    assert status(ask(gate, cookie=f'theme={{"dark":true}}; a b; {admitted}; x=\xfc')) == 200
    assert ask(gate, "/_stcore/stream", cookie=admitted, kind="websocket") == [{"type": "websocket.accept"}]


def test_a_cookie_of_another_server_does_not_count(admitted):
    assert status(ask(Gate(app, token=TOKEN, cookie="specgen-8501"), cookie=admitted)) == 401


def test_without_a_token_everybody_gets_in():
    assert status(ask(Gate(app, token=None, cookie="specgen-8501"))) == 200


def test_pages_may_load_nothing_from_elsewhere(gate, admitted):
    for sent in (ask(gate, cookie=admitted), ask(gate), ask(Gate(app, token=None, cookie="c"))):
        assert header(sent, b"content-security-policy") == POLICY
        assert header(sent, b"referrer-policy") == "no-referrer"
    assert "default-src 'self'" in POLICY and "http" not in POLICY and "*" not in POLICY
