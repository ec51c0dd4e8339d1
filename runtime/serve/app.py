"""The application: /v1/chat/completions, /v1/models, /health."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from runtime.generation.generate import Answer
from runtime.serve.asked import Asked
from runtime.serve.conversation import Question, question_of
from runtime.serve.desk import Desk, Job
from runtime.serve.door import MOST_BYTES, Door, too_many_bytes
from runtime.serve.faults import ApiError, ErrorBody, ending, of_unreadable, of_validation
from runtime.serve.told import DONE, WAITING, Completion, Models, ModelTold, Teller, event
from runtime.talking.tool_calls import ToolCallStream, names_of, parse

if TYPE_CHECKING:
    from runtime.talking.talker import Talker

SILENCE_SECONDS = 15.0
GONE = 499  # nginx's number for a client that did not wait; nobody reads it
REFUSALS: dict[int | str, dict[str, Any]] = {
    number: {"model": ErrorBody, "description": what}
    for number, what in {
        400: "The request is refused.",
        401: "The key is missing or wrong.",
        403: "Another machine's name, where no key is set.",
        404: "There is no such model.",
        405: "Another method.",
        413: "Too many bytes.",
        429: "Too many wait already.",
        500: "A fault of ours.",
        503: "The server is ending.",
    }.items()
}


class Described(FastAPI):
    """Its OpenAPI is as it is: refusals are 400, not 422, and one model is served, that of `name`."""

    def __init__(self, name: str, **settings: Any) -> None:
        super().__init__(**settings)
        self.name = name

    def openapi(self) -> dict[str, Any]:
        """The description that clients read, as JSON."""
        described = super().openapi()
        for path in described["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        described["components"]["schemas"]["Asked"]["properties"]["model"]["enum"] = [self.name]
        with contextlib.suppress(KeyError):
            del described["components"]["schemas"]["HTTPValidationError"], described["components"]["schemas"]["ValidationError"]
        return described


def build(talker: Talker, desk: Desk, key: str | None) -> Door:
    """The application for one model."""
    app = Described(
        talker.name, title="specgen serve", description=f"Asks the model {talker.name}, as OpenAI's API does.",
        docs_url=None, redoc_url=None, responses=REFUSALS, max_body_size=MOST_BYTES,
    )  # fmt: skip
    started = int(time.time())
    model = ModelTold(id=talker.name, created=started)
    _tell_errors(app, sees=talker.sees)

    @app.post(
        "/v1/chat/completions",
        response_model=Completion,
        responses={200: {"description": "The answer; with stream: true, as server-sent events.", "content": {"text/event-stream": {}}}},
    )
    async def chat_completions(asked: Asked, request: Request) -> Response:
        question = await asyncio.to_thread(question_of, asked, talker)
        address = request.client.host if request.client else ""
        job = Job(
            client=(address, asked.user), messages=question.messages, tools=question.tools, chat=question.chat, in_pieces=bool(asked.stream)
        )
        desk.put(job)
        teller = Teller(model=talker.name)
        if asked.stream:
            with_usage = bool(asked.stream_options and asked.stream_options.include_usage)
            told = _events(job, teller, question, with_usage=with_usage)
            return _Stream(told, ended=lambda: desk.cancel(job))
        return await _whole(request, job, desk, teller, question)

    @app.get("/v1/models")
    async def models() -> Models:
        return Models(data=[model])

    @app.get("/v1/models/{name}")
    async def one_model(name: str) -> ModelTold:
        if name != talker.name:
            raise ApiError(404, f"there is no model {name!r} here", code="model_not_found", param="model")
        return model

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "waiting": desk.waiting, "busy": desk.busy}

    return Door(app, key)


async def _whole(request: Request, job: Job, desk: Desk, teller: Teller, question: Question) -> Response:
    """The answer in one piece. A client that goes away ends it."""
    gone = asyncio.create_task(_gone(request))
    try:
        while True:
            item = asyncio.create_task(job.told.get())
            await asyncio.wait((item, gone), return_when=asyncio.FIRST_COMPLETED)
            if not item.done():
                item.cancel()
                return Response(status_code=GONE)
            told = item.result()
            if isinstance(told, ApiError):
                return told.response()
            if isinstance(told, Answer):
                spoken = parse(told.text, names_of(question.tools))
                return JSONResponse(teller.whole(told, spoken.text, spoken.calls))
    finally:
        gone.cancel()
        desk.cancel(job)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _Stream(StreamingResponse):
    """Server-sent events. Starlette ends them where the client goes away, maybe before the first; `ended` is called in any case."""

    def __init__(self, events: AsyncIterator[bytes], *, ended: Callable[[], None]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        self.ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.ended()


async def _events(job: Job, teller: Teller, question: Question, *, with_usage: bool) -> AsyncIterator[bytes]:
    """The answer in pieces."""
    stream = ToolCallStream(names_of(question.tools)) if question.tools else None
    yield teller.begun()
    while True:
        try:
            told = await asyncio.wait_for(job.told.get(), SILENCE_SECONDS)
        except TimeoutError:
            yield WAITING
            continue
        if isinstance(told, ApiError):
            yield event(told.body)
            return
        if isinstance(told, Answer):
            break
        if piece := stream.feed(told) if stream else told:
            yield teller.piece(piece)
    last = stream.flush() if stream else None
    if last and last.text:
        yield teller.piece(last.text)
    if last and last.calls:
        yield teller.called(last.calls)
    yield teller.over(told, last.calls if last else ())
    if with_usage:
        yield teller.used(told)
    yield DONE


def _tell_errors(app: FastAPI, *, sees: bool) -> None:
    """Every error in OpenAI's form."""

    @app.exception_handler(ApiError)
    async def _refused(_request: Request, error: ApiError) -> Response:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def _invalid(_request: Request, error: RequestValidationError) -> Response:
        return of_validation(error.errors(), error.body, sees=sees).response()

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return too_many_bytes().response()
        if error.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            return ending().response()
        if error.status_code == HTTPStatus.BAD_REQUEST:
            return of_unreadable(error.__cause__).response()
        message = {
            404: f"there is nothing at {request.url.path}",
            405: f"{request.url.path} does not take {request.method}",
        }.get(error.status_code, str(error.detail))
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
        return ApiError(error.status_code, message, code=code, headers=error.headers).response()

    @app.exception_handler(Exception)
    async def _ours(_request: Request, _error: Exception) -> Response:
        return ApiError(500, "a fault of the server; its output says more", kind="server_error").response()
