"""What is answered, in OpenAI's form: a completion, or the events of a stream."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel

from runtime.generation.generate import Answer
from runtime.talking.tool_calls import ToolCall

DONE = b"data: [DONE]\n\n"
WAITING = b": waiting\n\n"  # a comment, for proxies that close silent connections


class CalledFunction(BaseModel):
    """A function that the answer calls; its arguments are JSON as text."""

    name: str
    arguments: str


class CallTold(BaseModel):
    """A call of a tool."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class MessageTold(BaseModel):
    """The answer's text, and its calls."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    tool_calls: list[CallTold] | None = None


class Choice(BaseModel):
    """The one answer, and why it ended."""

    index: Literal[0] = 0
    message: MessageTold
    logprobs: None = None
    finish_reason: Literal["stop", "length", "tool_calls"]


class Usage(BaseModel):
    """Tokens of the question and of the answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(BaseModel):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


class ModelTold(BaseModel):
    """The model that is served; `created` in seconds since 1970."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["specgen"] = "specgen"


class Models(BaseModel):
    """The models that can be asked: one."""

    object: Literal["list"] = "list"
    data: list[ModelTold]


@dataclass(frozen=True, slots=True, kw_only=True)
class Teller:
    """Puts one answer into words: what all its parts share."""

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, answer: Answer, text: str, calls: Sequence[ToolCall]) -> dict[str, Any]:
        """The completion."""
        told = [CallTold(id=_call_id(), function=_called(call)) for call in calls]
        message = MessageTold(content=None if told and not text else text, tool_calls=told or None)
        choice = Choice(message=message, finish_reason=finish(answer, calls))
        done = Completion(id=self.id, created=self.created, model=self.model, choices=[choice], usage=usage(answer))
        plain = done.model_dump()
        if not told:
            del plain["choices"][0]["message"]["tool_calls"]
        return plain

    def begun(self) -> bytes:
        """The first event: who speaks."""
        return self._event({"role": "assistant", "content": ""})

    def piece(self, text: str) -> bytes:
        """An event with the next piece of text."""
        return self._event({"content": text})

    def called(self, calls: Sequence[ToolCall]) -> bytes:
        """An event with whole tool calls."""
        told = [{"index": index, "id": _call_id(), "type": "function", "function": vars(_called(call))} for index, call in enumerate(calls)]
        return self._event({"tool_calls": told})

    def over(self, answer: Answer, calls: Sequence[ToolCall]) -> bytes:
        """The event that says why the answer ended."""
        return self._event({}, finish(answer, calls))

    def used(self, answer: Answer) -> bytes:
        """The event that stream_options.include_usage asks for."""
        return event({**self._head(), "choices": [], "usage": usage(answer).model_dump()})

    def _event(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return event({**self._head(), "choices": [choice]})

    def _head(self) -> dict[str, Any]:
        return {"id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model}


def event(data: dict[str, Any]) -> bytes:
    """A server-sent event: one line of JSON in UTF-8."""
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def finish(answer: Answer, calls: Sequence[ToolCall]) -> Literal["stop", "length", "tool_calls"]:
    """Why an answer ended, in OpenAI's words."""
    if calls:
        return "tool_calls"
    return "stop" if answer.stopped else "length"


def usage(answer: Answer) -> Usage:
    """The tokens of an answer."""
    return Usage(prompt_tokens=answer.prompt_tokens, completion_tokens=answer.tokens, total_tokens=answer.prompt_tokens + answer.tokens)


def _called(call: ToolCall) -> CalledFunction:
    return CalledFunction(name=call.name, arguments=json.dumps(call.arguments, ensure_ascii=False))


def _call_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"
