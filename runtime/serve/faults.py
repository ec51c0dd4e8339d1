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
# What a value has to be, by the type of pydantic's error.
TYPES = {
    "string_type": "a text",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
}
BESIDE_TEXT = "this model reads text: only parts of the type 'text' can be in content"
BESIDE_IMAGES = "this model reads text and sees images: parts of the type 'text' can be in content, and 'image_url' in that of a user"


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


def ending() -> ApiError:
    """The refusal of whoever asks or waits while the server ends."""
    return ApiError(503, "the server is ending", code="server_ending", kind="server_error")


class ErrorDetail(BaseModel):
    """What is wrong, as OpenAI's clients read it: `param` is the field of the request."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """What every refused request gets."""

    error: ErrorDetail


def of_validation(errors: Sequence[Mapping[str, Any]], body: object, *, sees: bool) -> ApiError:
    """What is wrong with a request to a model that `sees`, one thing. `errors` are pydantic's: of a field with variants, those of every
    variant.

    The variant that was meant is the one that led deepest into what was sent, or whose type is that of what was sent.
    """
    paths = [_path(error["loc"][1:], body, keep_last=error["type"] in ("missing", "extra_forbidden")) for error in errors]
    first, path = max(
        zip(errors, paths, strict=True), key=lambda one: (one[0]["type"] == "unsupported_part", len(one[1]), one[0]["type"] not in TYPES)
    )
    if first["type"] == "json_invalid":
        return _no_json(first["ctx"]["error"])
    param = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".") or None
    if not path:
        return ApiError(400, "the request has to be a JSON object, sent as application/json", code="invalid_json")
    if first["type"] == "missing":
        return ApiError(400, f"{param} is missing", code="missing_required_parameter", param=param)
    if first["type"] == "extra_forbidden":
        return ApiError(400, f"{param} is not known here, and would have no effect", code="unknown_parameter", param=param)
    if first["type"] == "unsupported_part":
        return beside_text(str(param), sees=sees)
    if path[0] in REASONS:
        return ApiError(400, f"{path[0]}: {REASONS[str(path[0])]}", code="unsupported_value", param=param)
    types = [error["type"] for error, other in zip(errors, paths, strict=True) if other == path]
    return ApiError(400, f"{param}{_wrong(first, types)}", code="invalid_value", param=param)


def beside_text(param: str, *, sees: bool) -> ApiError:
    """The refusal of a content with parts that this model cannot take."""
    return ApiError(400, f"{param}: {BESIDE_IMAGES if sees else BESIDE_TEXT}", code="invalid_value", param=param)


def of_unreadable(cause: BaseException | None) -> ApiError:
    """A request whose bytes could not be read as JSON. `cause` is what Python's reader raised."""
    if isinstance(cause, RecursionError):
        return _no_json("it is nested too deep")
    if isinstance(cause, UnicodeDecodeError):
        return _no_json("it is not UTF-8")
    return _no_json("it cannot be read")


def _no_json(why: str) -> ApiError:
    return ApiError(400, f"the request is not JSON: {why}", code="invalid_json")


def _wrong(error: Mapping[str, Any], types: Sequence[str]) -> str:
    """What is wrong with a value, behind its name. `types` are those of all errors about it."""
    if error["type"] in TYPES:
        return f" has to be {' or '.join(dict.fromkeys(TYPES[name] for name in types if name in TYPES))}"
    if error["type"] in ("too_short", "string_too_short"):
        return " is empty"
    if error["type"] == "too_long":
        return f" takes {error['ctx']['max_length']} at most, not {error['ctx']['actual_length']}"
    return f": {error['msg'][:1].lower()}{error['msg'][1:]}"


def _sendable(text: str) -> str:
    """A text that may quote a request, without halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode()


def _path(steps: Sequence[int | str], body: Any, *, keep_last: bool) -> list[int | str]:
    """The steps that lead through the request itself, without those that only name a variant."""
    path: list[int | str] = []
    for number, step in enumerate(steps):
        if number == 2 and steps[0] == "messages":  # the role, which may be the name of a key, too
            continue
        last = keep_last and number == len(steps) - 1
        inside = step in body if isinstance(body, dict) else isinstance(body, list) and isinstance(step, int) and step < len(body)
        if inside:
            body = body[step]
        elif not last:
            continue
        path.append(step)
    return path
