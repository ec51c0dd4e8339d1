"""What is wrong with a request, in OpenAI's form: {"error": {message, type, param, code}}."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel

# A field whose value is refused: why, and what instead. Other values of it are taken.
REASONS = {
    "n": "one answer is made a request; ask again with another seed for another",
    "logprobs": "the probabilities of tokens are not given out",
    "top_logprobs": "the probabilities of tokens are not given out",
    "logit_bias": "single tokens cannot be weighted here",
    "frequency_penalty": "it is not worked out here and only 0 is taken; repetition_penalty is",
    "presence_penalty": "it is not worked out here and only 0 is taken; repetition_penalty is",
    "response_format": "only {'type': 'text'} can be promised: nothing holds this model to JSON. Ask for JSON in words, and check it",
    "tool_choice": "'auto' and 'none' are taken: nothing holds this model to a call",
    "parallel_tool_calls": "how many calls an answer makes is the model's own choice",
    "functions": "write tools, which took its place",
    "function_call": "write tool_choice, which took its place",
    "modalities": "this model writes text and nothing else",
    "audio": "this model writes text and nothing else",
    "store": "nothing is kept here",
    "service_tier": "there is one tier",
}
BESIDE_TEXT = "this model reads text: only parts of the type 'text' can be in content"


class ApiError(Exception):
    """A request that is refused, or that failed. `param` is the field, in OpenAI's way of writing it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        kind: str = "invalid_request_error",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.param = _sendable(message), None if param is None else _sendable(param)
        self.status, self.code, self.kind, self.headers = status, code, kind, headers

    @property
    def body(self) -> dict[str, Any]:
        """The error as the body of an answer, or of an event."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """The error as an answer."""
        return JSONResponse(self.body, self.status, self.headers)


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """What every refused request gets."""

    error: ErrorDetail


def of_validation(errors: Sequence[Mapping[str, Any]], body: object) -> ApiError:
    """The first thing that is wrong with a request. `errors` are pydantic's."""
    first = max(errors, key=lambda error: (error["type"] == "unsupported_part", len(error["loc"])))
    if first["type"] == "json_invalid":
        return ApiError(400, f"the request is not JSON: {first['ctx']['error']}", code="invalid_json")
    path = _path(first["loc"][1:], body, keep_last=first["type"] in ("missing", "extra_forbidden"))
    param = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".") or None
    if not path:
        return ApiError(400, "the request has to be a JSON object, sent as application/json", code="invalid_json")
    if first["type"] == "missing":
        return ApiError(400, f"{param} is missing", code="missing_required_parameter", param=param)
    if first["type"] == "extra_forbidden":
        return ApiError(400, f"{param} is not known here, and would have no effect", code="unknown_parameter", param=param)
    if path[0] in REASONS:
        return ApiError(400, f"{path[0]}: {REASONS[str(path[0])]}", code="unsupported_value", param=param)
    message = first["msg"][:1].lower() + first["msg"][1:]
    return ApiError(400, f"{param}: {message}", code="invalid_value", param=param)


def _sendable(text: str) -> str:
    """A text that may quote a request, without halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode()


def _path(steps: Sequence[int | str], body: Any, *, keep_last: bool) -> list[int | str]:
    """The steps that lead through the request itself, without those that only name a variant."""
    path: list[int | str] = []
    for number, step in enumerate(steps):
        last = keep_last and number == len(steps) - 1
        inside = step in body if isinstance(body, dict) else isinstance(body, list) and isinstance(step, int) and step < len(body)
        if inside:
            body = body[step]
        elif not last:
            continue
        path.append(step)
    return path
