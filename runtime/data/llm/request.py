"""What is asked and what comes back, in the words of OpenAI's chat completions.

https://platform.openai.com/docs/api-reference/chat/create; vLLM, llama.cpp, Ollama, TGI and SGLang speak the same.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

CHARACTERS_A_TOKEN = 4  # of English text; a character beyond ASCII is a token. Only until an endpoint says what it used, or where none does


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """`where` is the endpoint, or what identifies a local model. Nothing in here is secret: it is kept on disk."""

    where: str
    model: str
    messages: tuple[dict[str, str], ...]
    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    schema: dict[str, Any] | None

    def body(self) -> dict[str, Any]:
        """The request as it is sent."""
        body: dict[str, Any] = {
            "model": self.model,
            "messages": list(self.messages),
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
        }
        if self.schema is not None:
            named = {"name": "answer", "schema": self.schema, "strict": _fits_strict(self.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        return body

    def key(self) -> str:
        """SHA-256, in hex, of where it is sent and all that is sent."""
        text = json.dumps({"where": self.where, **self.body()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def most_tokens(self) -> int:
        """What it is reckoned to cost at most: the prompt, estimated, and the longest answer."""
        return estimated(json.dumps(self.messages, ensure_ascii=False)) + self.max_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """`finish` is why the answer ended: stop, length, content_filter, … `tokens` counts prompt and answer."""

    text: str
    finish: str
    tokens: int


def estimated(text: str) -> int:
    """Tokens of a text, roughly."""
    others = 0 if text.isascii() else sum(character > "\x7f" for character in text)
    return others - (others - len(text)) // CHARACTERS_A_TOKEN


def reply_of(body: bytes, request: Request) -> Reply:
    """The reply in the body of a response. Raises ValueError, with a text for people, where there is none in it."""
    try:
        found = json.loads(body)
        choice = found["choices"][0]
        message = choice["message"]
        text, refusal = message.get("content"), message.get("refusal")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise ValueError("the response is no chat completion") from None
    if not isinstance(text, str | None) or not isinstance(refusal, str | None):
        raise ValueError("the content of the response is no text")
    usage = found.get("usage")
    tokens = usage.get("total_tokens") if isinstance(usage, dict) else None
    if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 0:
        tokens = estimated(json.dumps(request.messages, ensure_ascii=False)) + estimated(text or refusal or "")
    finish = "refusal" if refusal else choice.get("finish_reason") or "stop"
    return Reply(text=refusal or text or "", finish=str(finish), tokens=tokens)


def _fits_strict(schema: Any) -> bool:
    """Whether OpenAI's strict mode takes a schema: every object is closed and asks for all its keys. Others refuse nothing."""
    if isinstance(schema, list):
        return all(_fits_strict(item) for item in schema)
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object" or "properties" in schema:
        keys = set(schema.get("properties", {}))
        if schema.get("additionalProperties") is not False or set(schema.get("required", ())) != keys:
            return False
    return all(_fits_strict(value) for value in schema.values())
