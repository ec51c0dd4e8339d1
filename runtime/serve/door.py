"""Who may come in: those who know the key, or, without one, those on this machine who name it by its name."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from runtime.serve.faults import ApiError
from runtime.serve.key import is_loopback

MOST_BYTES = 16 * 2**20
OPEN = ("/health",)  # tells nothing, and load balancers have no key

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]


def too_many_bytes() -> ApiError:
    """The refusal of a request that is too large."""
    return ApiError(413, f"a request may have {MOST_BYTES:,} bytes", code="request_too_large")


class Door:
    """In front of the application. Compares keys in constant time, and tells nobody the right one.

    Without a key the Host header has to name this machine: a page of another name that was made to point here (DNS rebinding)
    does not get in.
    """

    def __init__(self, app: App, key: str | None) -> None:
        self.app, self.key = app, key.encode() if key else None

    async def __call__(self, scope: Scope, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN and (error := self._refusal(dict(scope["headers"]))):
            await error.response()(scope, receive, send)
        else:
            await self.app(scope, receive, send)

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
