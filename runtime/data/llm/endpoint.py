"""An OpenAI-compatible endpoint: one request at a time through `ask`, sent again where that may help.

The key is read from the environment when something has to be asked. It goes into the Authorization header and nowhere else: where an
endpoint repeats it, it is struck out of messages, and of answers if it is long enough to be a secret.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from dataclasses import replace
from email.utils import parsedate_to_datetime
from time import time
from typing import TYPE_CHECKING, Any

from runtime import console
from runtime.config import LlmSource
from runtime.data.llm.budget import Meter
from runtime.data.llm.request import Reply, Request, reply_of
from runtime.faults import WRONG, RunFault

if TYPE_CHECKING:
    import httpx2

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 60.0
MOST_ASKED_WAIT_S = 600.0  # an endpoint that wants more than this has no quota left for the day
MAY_HELP = {408, 409, 425, 429}  # of 4xx: sending again may help; and so for all 5xx
NO_QUOTA = {"insufficient_quota", "billing_hard_limit_reached"}  # OpenAI's 429 that no waiting helps
MASK = "********"
SECRET = 16  # characters: a shorter key is the placeholder of a local server, `ollama` or `1`, and a word that answers may say


class Again(Exception):
    """No answer this time. `wait_s` is how long the endpoint asks to wait; `billed` whether it may have worked on it."""

    def __init__(self, why: str, *, wait_s: float = 0.0, billed: bool = False) -> None:
        super().__init__(why)
        self.wait_s, self.billed = wait_s, billed


class Endpoint:
    """Answers from `base_url`. `resent` counts requests that were sent again."""

    def __init__(self, source: LlmSource, meter: Meter) -> None:
        self.source, self.meter = source, meter
        self.where = source.base_url.rstrip("/")
        self.resent = 0
        self._key: str | None = None
        self._client: httpx2.AsyncClient | None = None
        self._slots = asyncio.Semaphore(source.concurrency)
        self._not_before = 0.0  # the endpoint's own wish, for all requests
        self._limit_name = "max_tokens"
        self._fault: RunFault | None = None

    async def ask(self, request: Request) -> Reply:
        """The reply. Raises RunFault where none is to be had, and UsedUp; after a RunFault nothing more is sent."""
        async with self._slots:
            for attempt in range(self.source.retries + 1):
                await self._wait()
                try:
                    return await self._paid(request)
                except Again as again:
                    too_long = again.wait_s > MOST_ASKED_WAIT_S
                    if attempt == self.source.retries or too_long:
                        why = f"{again}; it asks to wait {again.wait_s:,.0f} seconds" if too_long else str(again)
                        self._fault = self._fault or self._no_answer(attempt + 1, why)
                        raise self._fault from None
                    self._not_before = max(self._not_before, _now() + again.wait_s)
                    self.resent += 1
                    await asyncio.sleep(_backoff(attempt))
                except RunFault as fault:
                    self._fault = fault
                    raise
        raise AssertionError

    async def close(self) -> None:
        """Ends all connections."""
        if self._client is not None:
            await self._client.aclose()

    async def _wait(self) -> None:
        while (rest := self._not_before - _now()) > 0 and not self._fault:
            await asyncio.sleep(min(rest, 1.0))
        if self._fault:
            raise self._fault

    async def _paid(self, request: Request) -> Reply:
        async with self.meter.spending(request.most_tokens()) as bill:
            try:
                reply = await self._send(request)
            except Again as again:
                bill.requests, bill.tokens = (1, request.most_tokens()) if again.billed else (0, 0)
                raise
            except RunFault:
                bill.requests = bill.tokens = 0
                raise
            bill.tokens = reply.tokens
            return reply

    async def _send(self, request: Request) -> Reply:
        import httpx2

        body, limit_name = request.body(), self._limit_name
        body[limit_name] = body.pop("max_tokens")
        try:
            async with asyncio.timeout(self.source.timeout_s):
                response = await self._connected().post(f"{self.where}/chat/completions", json=body)
        except TimeoutError:
            raise Again(f"no answer within {self.source.timeout_s:g} seconds", billed=True) from None
        except (httpx2.ConnectError, httpx2.ProxyError) as error:
            raise Again(f"no connection ({console.one_line(str(error), 200)})") from None
        except httpx2.UnsupportedProtocol as error:
            raise RunFault("SG482", f"{self.where} is no endpoint: {error}", exit_code=WRONG) from None
        except httpx2.RequestError as error:  # of what comes back, too: a body that is not packed as its header says
            raise Again(f"the connection broke ({type(error).__name__})", billed=True) from None
        if response.status_code == 200:
            try:
                reply = reply_of(response.content, request)
            except ValueError as error:
                raise Again(str(error), billed=True) from None
            return replace(reply, text=self._masked(reply.text)) if self._key and len(self._key) >= SECRET else reply
        if response.status_code == 400 and limit_name == "max_tokens" and b"max_completion_tokens" in response.content:
            self._limit_name = "max_completion_tokens"  # OpenAI's reasoning models know only this name
            return await self._send(request)
        raise self._refusal(response)

    def _refusal(self, response: httpx2.Response) -> Again | RunFault:
        status = response.status_code
        said, code = _error_in(response.content)
        why = f"{status} {response.reason_phrase}".strip() + (f": {console.one_line(self._masked(said), 200)}" if said else "")
        if (status in MAY_HELP or status >= 500) and code not in NO_QUOTA:
            return Again(why, wait_s=_asked_wait(response.headers.get("Retry-After")))
        return self._will_not_help(status, why)

    def _will_not_help(self, status: int, why: str) -> RunFault:
        env, model = self.source.api_key_env, self.source.model
        if status in (401, 403) and env is None:
            return RunFault("SG482", f"{self.where} wants a key: {why}", "api_key_env: NAME names the environment variable that holds it")
        if status in (401, 403):
            hint = f"set {env} to a key that is valid there and may use {model}"
            return RunFault("SG482", f"{self.where} refuses the key in {env}: {why}", hint)
        if status == 404:
            hint = f"{self.where}/models lists what it has; base_url ends before /chat/completions, often with /v1"
            return RunFault("SG482", f"{self.where} has no model {model}: {why}", hint, exit_code=WRONG)
        elsewhere = "base_url has to be where it leads" if 300 <= status < 400 else None
        return RunFault("SG482", f"{self.where} refuses the request for {model}: {why}", elsewhere)

    def _no_answer(self, times: int, why: str) -> RunFault:
        asked = "asked once," if times == 1 else f"asked {times} times, the last time"
        message = f"{self.where} gives no answer: {asked} {why}"
        return RunFault("SG483", message, "what was answered is kept: the next run asks only for the rest")

    def _connected(self) -> httpx2.AsyncClient:
        if self._client is None:
            import httpx2

            self._key = _key(self.source.api_key_env)
            headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
            limits = httpx2.Limits(max_connections=self.source.concurrency)
            self._client = httpx2.AsyncClient(headers=headers, timeout=None, limits=limits)  # asyncio.timeout is around it
        return self._client

    def _masked(self, text: str) -> str:
        return text.replace(self._key, MASK) if self._key else text


def _key(name: str | None) -> str | None:
    """The key, from the environment. Raises RunFault where it is not there, or cannot be sent; never says what it is."""
    if name is None:
        return None
    key = os.environ.get(name, "").strip()
    if not key:
        hint = f"export {name}=…; the spec and its builds never hold a key"
        raise RunFault("SG481", f"the environment variable {name}, which api_key_env names, is not set", hint, exit_code=WRONG)
    if not (key.isascii() and key.isprintable()):
        raise RunFault("SG481", f"the environment variable {name} holds characters that no key has", exit_code=WRONG)
    return key


def _error_in(body: bytes) -> tuple[str, str]:
    """What a response says is wrong, as text and as a code: in OpenAI's form, in others', or as it is."""
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        return body.decode("utf-8", "replace"), ""
    if isinstance(found, dict):
        found = found.get("error", found)
    if isinstance(found, dict):
        said = found.get("message") or found.get("detail") or json.dumps(found, ensure_ascii=False)
        return str(said), str(found.get("code") or "")
    return str(found), ""


def _asked_wait(header: str | None) -> float:
    """Seconds of a Retry-After header, which holds seconds or a date; 0 without one."""
    if not header:
        return 0.0
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time())
    except ValueError:
        return 0.0


def _backoff(attempt: int) -> float:
    """Seconds before the next try: doubling, and between half and all of that, so that requests do not come back together."""
    most: float = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**attempt)
    return most * random.uniform(0.5, 1.0)  # noqa: S311  (chance, not secrecy)


def _now() -> float:
    return asyncio.get_running_loop().time()
