"""Who may come in: those who know the key, or, without one, those on this machine who name it by its name."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.exceptions import HTTPException

from runtime.serve.faults import ApiError, ending
from runtime.serve.key import is_loopback

MOST_BYTES = 16 * 2**20
OPEN = ("/health",)  # tells nothing, and load balancers have no key

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
App = Callable[[Scope, Receive, Callable[[Any], Awaitable[None]]], Awaitable[None]]


def too_many_bytes() -> ApiError:
    """The refusal of a request that is too large."""
    return ApiError(413, f"a request may have {MOST_BYTES:,} bytes", code="request_too_large")


class Door:
    """In front of the application. Compares keys in constant time, and tells nobody the right one.

    Without a key the Host header has to name this machine: a page of another name that was made to point here (DNS rebinding)
    does not get in. Once it is closed nobody waits for the rest of a request.
    """

    def __init__(self, app: App, key: str | None) -> None:
        self.app, self.key = app, key.encode() if key else None
        self._closed = asyncio.Event()

    def close(self) -> None:
        """Refuses the requests that are not whole yet. Called in the event loop."""
        self._closed.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Callable[[Any], Awaitable[None]]) -> None:
        """One connection, as ASGI has it; a request that may not enter gets its refusal."""
        if scope["type"] == "http" and scope["path"] not in OPEN and (error := self._refusal(dict(scope["headers"]))):
            await error.response()(scope, receive, send)
        else:
            await self.app(scope, self._until_closed(receive) if scope["type"] == "http" else receive, send)

    def _until_closed(self, receive: Receive) -> Receive:
        """Receives a request until it is whole, or the door is closed: that is an HTTPException, which the application tells."""
        whole = False

        async def received() -> Any:
            nonlocal whole
            if whole:
                return await receive()
            message, closed = asyncio.ensure_future(receive()), asyncio.ensure_future(self._closed.wait())
            try:
                await asyncio.wait((message, closed), return_when=asyncio.FIRST_COMPLETED)
                if not message.done():
                    raise HTTPException(ending().status)
                whole = not message.result().get("more_body", False)
                return message.result()
            finally:
                message.cancel()
                closed.cancel()

        return received

    def _refusal(self, headers: dict[bytes, bytes]) -> ApiError | None:
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length[:20]) > MOST_BYTES:
            return too_many_bytes()  # before it is read; one that does not tell its length is stopped while it is
        if self.key is None:
            host = headers.get(b"host", b"").decode("latin-1")
            name = host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
            if is_loopback(name.lower()):
                return None
            return ApiError(403, f"this server has no key and answers this machine only; its name is not {name!r}", code="forbidden_host")
        kind, _, given = headers.get(b"authorization", b"").partition(b" ")
        if kind.lower() == b"bearer" and hmac.compare_digest(given.strip(), self.key):
            return None
        message = "the API key is missing or wrong: send Authorization: Bearer KEY"
        return ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
