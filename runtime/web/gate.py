"""Who gets in: with a token, only who has it; and what a page may load."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEALTH = "/_stcore/health"  # Streamlit's own; it says "ok" and nothing else
# answers are Markdown: without this an image in one would tell another server what was asked
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self' data: blob:; frame-ancestors 'self'; base-uri 'self'; form-action 'self'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
REFUSAL = "this address needs the token: open the address that specgen chat --web has printed, with ?token=…\n"


class Gate:
    """In front of Streamlit's app. The right ?token=… is answered with a cookie that holds until the server ends; without one there
    is nothing but the health endpoint. `token` None lets everybody in."""

    def __init__(self, app: App, *, token: str | None, cookie: str) -> None:
        self.app, self.token, self.cookie = app, token, cookie
        self.admission = secrets.token_urlsafe(32)  # in the cookie, instead of the token: browsers may keep that on a disk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, as ASGI has it: let in by the cookie, given one for the token, or refused."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif self.token is None or scope["path"] == HEALTH or self._has_cookie(scope):
            await self.app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        elif self._has_token(scope):
            cookie = f"{self.cookie}={self.admission}; Path=/; HttpOnly; SameSite=Lax"
            headers = [(b"location", _without_token(scope).encode()), (b"set-cookie", cookie.encode())]
            await _answer(_with_headers(send), 303, headers, b"")
        else:
            await _answer(_with_headers(send), 401, [(b"content-type", b"text/plain; charset=utf-8")], REFUSAL.encode())

    def _has_cookie(self, scope: Scope) -> bool:
        from starlette.requests import cookie_parser

        cookies = cookie_parser("; ".join(_header(scope, b"cookie")))  # other servers of this machine set some of any kind
        return secrets.compare_digest(cookies.get(self.cookie, "").encode(), self.admission.encode())

    def _has_token(self, scope: Scope) -> bool:
        assert self.token is not None
        given = dict(_query(scope)).get("token", "")
        return secrets.compare_digest(given.encode(), self.token.encode())


def _with_headers(send: Send) -> Send:
    async def sent(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
        await send(message)

    return sent


async def _answer(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [*headers, (b"cache-control", b"no-store")]})
    await send({"type": "http.response.body", "body": body})


def _header(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _query(scope: Scope) -> list[tuple[str, str]]:
    return parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)


def _without_token(scope: Scope) -> str:
    """The same place without the token: addresses are kept in a browser's history, and passed on. Always on this server."""
    rest = urlencode([(name, value) for name, value in _query(scope) if name != "token"])
    return f"/?{rest}" if rest else "/"
