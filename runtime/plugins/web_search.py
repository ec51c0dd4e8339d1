"""The tool search: a provider that the environment names, by its own interface. Keys are read from there alone, and never shown."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from runtime.faults import WRONG, RunFault
from runtime.plugins.expressions import Unfit

if TYPE_CHECKING:
    import httpx2

PROVIDER, KEY, ADDRESS = "SPECGEN_SEARCH", "SERPER_API_KEY", "SPECGEN_SEARCH_URL"
SERPER = "https://google.serper.dev"
SECONDS, MOST_BYTES, MOST_RESULTS = 15, 2 * 10**6, 5
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """Where is searched. `key` is Serper's."""

    name: str
    address: str
    key: str | None


def provider() -> Provider:
    """The provider of the environment. Raises RunFault that says what to set."""
    name = os.environ.get(PROVIDER, "").strip() or ("serper" if os.environ.get(KEY) else "")
    address, key = os.environ.get(ADDRESS, "").strip(), os.environ.get(KEY, "").strip()
    if name == "serper" and key:
        return _checked(Provider(name=name, address=address or SERPER, key=key))
    if name == "searxng" and address:
        return _checked(Provider(name=name, address=address, key=None))
    needed = {"serper": f"{KEY} is not set", "searxng": f"{ADDRESS} is not set"}
    why = needed.get(name, f"{PROVIDER} is {name!r}" if name else f"{PROVIDER} is not set")
    hint = f"export {PROVIDER}=serper {KEY}=…, or {PROVIDER}=searxng {ADDRESS}=https://…; or leave search out of the plugins"
    raise RunFault("SG667", f"the plugin search has no provider: {why}", hint, exit_code=WRONG)


def search(query: str) -> str:
    """The first results, each with title, text and address. Raises Unfit where the provider gives none."""
    import httpx2

    where = provider()
    try:
        with httpx2.Client(timeout=SECONDS, follow_redirects=False) as client, _asked(client, where, query) as response:
            if response.status_code != 200:
                raise Unfit(f"the search was refused with status {response.status_code}")
            content = b""
            for piece in response.iter_bytes():
                content += piece
                if len(content) > MOST_BYTES:
                    raise Unfit("the search answered with too much")
    except (httpx2.RequestError, httpx2.InvalidURL) as error:
        raise Unfit(f"the search cannot be reached ({type(error).__name__})") from None
    return _results(where, content)


def _asked(client: httpx2.Client, where: Provider, query: str) -> Any:
    if where.name == "serper":
        return client.stream("POST", f"{where.address}/search", json={"q": query}, headers={"X-API-KEY": where.key or ""})
    return client.stream("GET", f"{where.address}/search", params={"q": query, "format": "json"})


def _results(where: Provider, content: bytes) -> str:
    import json

    listed, text = ("organic", "snippet") if where.name == "serper" else ("results", "content")
    address = "link" if where.name == "serper" else "url"
    try:
        found = json.loads(content)[listed]
        lines = [f"{number}. {one['title']}: {one.get(text, '')} ({one[address]})" for number, one in enumerate(found[:MOST_RESULTS], 1)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Unfit("the search answered with something else than results") from None
    return "\n".join(lines) or "nothing was found"


def _checked(where: Provider) -> Provider:
    parts = urlsplit(where.address)
    safe = parts.scheme == "https" or (parts.scheme == "http" and (where.key is None or parts.hostname in LOOPBACK))
    if not safe or not parts.hostname:
        message = f"the plugin search has no provider: {ADDRESS} is no https address, and the key would go there unencrypted"
        if where.key is None:
            message = f"the plugin search has no provider: {ADDRESS} is no http or https address"
        raise RunFault("SG667", message, f"export {ADDRESS}=https://…", exit_code=WRONG)
    return where
