"""The HTTP application: an OpenAI-compatible API around one guarded agent."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import ValidationError

from pege import __version__
from pege.agent import GuardedAgent
from pege.agent.settings import Settings
from pege.dialog import Context
from pege.errors import InputError
from pege.io import why_invalid
from pege.server.config import ServerConfig
from pege.server.messages import ChatRequest, context_of
from pege.server.service import Done, Event, ModelFailedError, Piece, QueueFullError, Service
from pege.web import BODY_S, FAILED_KEYS_PER_MINUTE, RateLimit, client_address, is_same_origin, secure_app

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from pege.server.chat.store import Store

_T = TypeVar("_T")
log = logging.getLogger(__name__)
_LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]", "::1")
_GRACE_S = 30.0  # beyond a request's own limit, for a client that reads slowly


class RefusedError(Exception):
    """A request that is answered with an error in the form of the OpenAI API."""

    def __init__(self, status: int, message: str, *, retry_s: int | None = None) -> None:
        self.status, self.message, self.retry_s = status, message, retry_s
        super().__init__(message)

    @property
    def body(self) -> dict[str, Any]:
        """The error as the API words it."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"error": {"message": self.message, "type": kind, "param": None, "code": None}}


def make_service(agent: GuardedAgent, config: ServerConfig) -> Service:
    """Make the service that the API and the web chat share; see `Service`."""
    return Service(
        agent,
        max_batch=config.max_batch,
        max_queue=config.max_queue,
        timeout_s=config.timeout_s,
        max_tokens=config.max_tokens,
        max_per_key=config.max_per_key,
    )


def make_app(service: Service, config: ServerConfig, *, store: Store | None = None) -> FastAPI:
    """Make the application: the API, and with a store the web chat; a key, or an address without keys, has one rate.

    Args:
        service: answers, behind the safety path; closed when the application ends.
        config: limits and keys.
        store: of the dialogs that people of the web chat keep; without one there is no web chat.
    """
    rate, metrics = RateLimit(config.requests_per_minute), service.metrics
    failed = RateLimit(FAILED_KEYS_PER_MINUTE)  # of an address, by the API or the sign-in of the web chat

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with store.purging() if store else nullcontext():
            yield
        await asyncio.to_thread(service.close)

    app = FastAPI(title="pege", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    # without keys a page of another site must not reach the server by a name that points to this machine
    hosts = ("*",) if config.key_hashes else _LOOPBACK_NAMES
    secure_app(app, max_body_bytes=config.max_body_bytes, body_s=min(BODY_S, config.timeout_s), hosts=hosts)

    @app.exception_handler(RefusedError)
    async def refused(_: Request, e: RefusedError) -> JSONResponse:
        metrics.requests.labels(str(e.status)).inc()
        return JSONResponse(e.body, e.status, {} if e.retry_s is None else {"Retry-After": str(e.retry_s)})

    def admit(request: Request) -> str:
        if not is_same_origin(request):
            raise RefusedError(403, "asked by a page of another site")
        key = ""
        if config.key_hashes:
            address, given = client_address(request), request.headers.get("authorization", "")
            if not failed.is_open(address):  # before a look at the key: going on tells nothing
                raise RefusedError(429, "too many wrong API keys", retry_s=failed.retry_s(address))
            found = config.key_of(given)
            if found is None:
                if given:
                    failed.allows(address)
                raise RefusedError(401, "no valid API key")
            key = found
        client = key or client_address(request)
        if not rate.allows(client):
            raise RefusedError(429, "too many requests a minute", retry_s=rate.retry_s(client))
        return key

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Say that the process is alive."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        """Say whether requests are answered."""
        is_ready = await service.is_ready()
        return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)

    @app.get("/metrics")
    async def show_metrics(request: Request) -> Response:
        """Give the counts in Prometheus' text format; where there are keys, to who has one."""
        admit(request)
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/v1/models")
    async def models(request: Request) -> dict[str, Any]:
        """List the one model."""
        admit(request)
        row = {"id": service.agent.name, "object": "model", "created": 0, "owned_by": "pege"}
        return {"object": "list", "data": [row]}

    body = {"content": {"application/json": {"schema": ChatRequest.model_json_schema()}}, "required": True}
    codes: dict[int | str, dict[str, Any]] = {
        s: {"description": "refused"} for s in (400, 401, 403, 413, 429, 500, 504)
    }

    @app.post("/v1/chat/completions", openapi_extra={"requestBody": body}, responses=codes, response_model=None)
    async def chat(request: Request) -> JSONResponse | StreamingResponse:
        """Give the response to the messages, whole or as server-sent events."""
        key = admit(request)
        wanted, context, settings = await _read(request, config)
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": service.agent.name}
        events = _worded(service.stream(context, settings, key=key))
        try:
            if wanted.stream:  # what is refused has its status; then the stream begins
                first = await _or_gone(request, anext(events))
            else:
                done = await _or_gone(request, _last(events))
        except BaseException:
            await events.aclose()
            raise
        metrics.requests.labels("200").inc()
        if not wanted.stream:
            return JSONResponse(_completion(head, done))
        chunks = _chunks(head, first, events, with_usage=wanted.wants_usage)
        return EventStream(chunks, limit_s=service.timeout_s + _GRACE_S, on_end=events.aclose)

    if store:
        from pege.server.chat.app import make_chat

        # last: what the API has not is the chat's
        app.mount("/", make_chat(service, store, config, rate, failed=failed))
    return app


class EventStream(StreamingResponse):
    """Server-sent events whose generator is closed at once where the client goes away or reads too slowly.

    Args:
        chunks: the events.
        limit_s: seconds in which they must be read.
        on_end: called at the end, also where the client went before the first event.
    """

    def __init__(
        self, chunks: AsyncGenerator[str], *, limit_s: float, on_end: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        super().__init__(chunks, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self._chunks, self._limit_s, self._on_end = chunks, limit_s, on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            async with asyncio.timeout(self._limit_s):
                await super().__call__(scope, receive, send)
        except TimeoutError:
            log.warning("a client read too slowly and was left")
        finally:
            await self._chunks.aclose()
            if self._on_end:
                await self._on_end()


async def _read(request: Request, config: ServerConfig) -> tuple[ChatRequest, Context, Settings]:
    try:
        wanted = ChatRequest.model_validate_json(await request.body())
        if len(wanted.messages) > config.max_messages:
            raise RefusedError(400, f"more than {config.max_messages} messages")
        return wanted, context_of(wanted.messages), wanted.settings
    except ValidationError as e:
        raise RefusedError(400, why_invalid(e)) from e
    except InputError as e:
        raise RefusedError(400, str(e)) from e


async def _or_gone(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """Give what work gives, or end it as soon as the client goes away."""

    async def goes_away() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(goes_away())
    try:
        await asyncio.wait([task, gone], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise RefusedError(499, "the client went away")
        return await task
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _worded(events: AsyncGenerator[Event]) -> AsyncGenerator[Event]:
    """Events, what fails worded for the client."""
    async with aclosing(events):
        try:
            async for event in events:
                yield event
        except QueueFullError as e:
            raise RefusedError(429, str(e) or "the queue is full", retry_s=1) from e
        except TimeoutError as e:
            raise RefusedError(504, "the response took too long") from e
        except ModelFailedError as e:
            raise _failure(e.__cause__) from e


def _failure(cause: BaseException | None) -> RefusedError:
    """What a request is told whose model failed."""
    from pege.agent.endpoint import TooLongError

    if isinstance(cause, TooLongError):
        return RefusedError(400, "the last message is longer than the model reads")
    if getattr(cause, "status_code", None) == 429:  # the engine behind the proxy
        return RefusedError(429, "the queue is full", retry_s=1)
    return RefusedError(500, "the model failed on this request")


async def _last(events: AsyncGenerator[Event]) -> Done:
    async for event in events:
        if isinstance(event, Done):
            return event
    raise AssertionError("a response has an end")


def _completion(head: dict[str, Any], done: Done) -> dict[str, Any]:
    """The response as the API gives it whole."""
    message = {"role": "assistant", "content": done.text, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": done.finish, "logprobs": None}
    body = {**head, "object": "chat.completion", "choices": [choice], "pege": done.extras}
    return body if done.n_new is None else {**body, "usage": _usage(done)}


async def _chunks(
    head: dict[str, Any], first: Event, events: AsyncGenerator[Event], *, with_usage: bool
) -> AsyncGenerator[str]:
    """The response as the chunks of the API; the last one has the ``pege`` field."""

    def chunk(delta: dict[str, str], finish: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return _event({**head, "object": "chat.completion.chunk", "choices": [choice], **more})

    yield chunk({"role": "assistant", "content": ""})
    async with aclosing(events):
        try:
            async for event in _after(first, events):
                if isinstance(event, Piece):
                    yield chunk({"content": event.text})
                    continue
                yield chunk({}, event.finish, pege=event.extras)
                if with_usage:
                    usage = _usage(event)
                    yield _event({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
        except RefusedError as e:
            yield _event(e.body)
    yield "data: [DONE]\n\n"


async def _after(first: Event, events: AsyncGenerator[Event]) -> AsyncGenerator[Event]:
    yield first
    async for event in events:
        yield event


def _usage(done: Done) -> dict[str, int]:
    n_prompt, n_new = done.n_prompt or 0, done.n_new or 0
    return {"prompt_tokens": n_prompt, "completion_tokens": n_new, "total_tokens": n_prompt + n_new}


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body)}\n\n"
