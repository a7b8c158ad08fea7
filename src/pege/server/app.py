"""The HTTP application: an OpenAI-compatible API around one guarded agent."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import ValidationError

from pege import __version__
from pege.agent import GuardedAgent
from pege.dialog import Context, Emotion
from pege.errors import InputError
from pege.io import why_invalid
from pege.server.batching import Batcher, QueueFullError
from pege.server.config import ServerConfig
from pege.server.messages import ChatRequest, context_of, guidance_of, vad_of

_POLL_S = 0.1  # between looks whether the client is still there
_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


class RefusedError(Exception):
    """A request that is answered with an error in the form of the OpenAI API."""

    def __init__(self, status: int, message: str, *, retry_s: int | None = None) -> None:
        self.status, self.message, self.retry_s = status, message, retry_s
        super().__init__(message)


class Metrics:
    """What `/metrics` shows; no text of anybody."""

    def __init__(self, batcher: Batcher) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("pege_requests", "Requests by status.", ["status"], registry=self.registry)
        self.fixed = Counter("pege_fixed_texts", "Answers that were the fixed text.", registry=self.registry)
        self.seconds = Histogram("pege_response_seconds", "Arrival to response.", registry=self.registry)
        waiting = Gauge("pege_waiting", "Requests that wait.", registry=self.registry)
        waiting.set_function(lambda: batcher.n_waiting)


def make_app(
    agent: GuardedAgent, config: ServerConfig, *, emotions: Callable[[list[str]], list[Emotion]] | None = None
) -> FastAPI:
    """Make the application.

    Args:
        agent: answers, behind the safety path.
        config: limits and keys.
        emotions: texts to their emotions; the first utterance's goes to the agent. None leaves it out.
    """
    batcher = Batcher(agent, max_batch=config.max_batch, max_queue=config.max_queue, timeout_s=config.timeout_s)
    metrics = Metrics(batcher)
    asked: dict[str, deque[float]] = defaultdict(deque)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(batcher.close)

    app = FastAPI(title="pege", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)

    @app.exception_handler(RefusedError)
    async def refused(_: Request, e: RefusedError) -> JSONResponse:
        metrics.requests.labels(str(e.status)).inc()
        headers = dict(_HEADERS) | ({} if e.retry_s is None else {"Retry-After": str(e.retry_s)})
        kind = "server_error" if e.status >= 500 else "invalid_request_error"
        return JSONResponse({"error": {"message": e.message, "type": kind, "code": None}}, e.status, headers)

    def admit(request: Request) -> None:
        key = ""
        if config.key_hashes:
            found = config.key_of(request.headers.get("authorization", ""))
            if found is None:
                raise RefusedError(401, "no valid API key")
            key = found
        times, now = asked[key], time.monotonic()
        while times and times[0] <= now - 60:
            times.popleft()
        if len(times) >= config.requests_per_minute:
            raise RefusedError(429, "too many requests of this key", retry_s=max(1, int(times[0] + 60 - now)))
        times.append(now)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Say that the process is alive."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        """Say whether requests are answered."""
        return JSONResponse({"ready": batcher.is_alive}, 200 if batcher.is_alive else 503)

    @app.get("/metrics")
    async def show_metrics() -> Response:
        """Give the counts in Prometheus' text format."""
        return Response(generate_latest(metrics.registry), media_type="text/plain; version=0.0.4")

    @app.get("/v1/models")
    async def models(request: Request) -> dict[str, Any]:
        """List the one model."""
        admit(request)
        row = {"id": agent.name, "object": "model", "created": 0, "owned_by": "pege"}
        return {"object": "list", "data": [row]}

    async def answer(request: Request, context: Context, seed: int | None) -> tuple[str, bool]:
        """Give the response, and whether it is the fixed text, which waits for nobody."""
        text = await asyncio.to_thread(agent.help, context)
        if text is not None:
            metrics.fixed.inc()
            return text, True
        work = asyncio.create_task(batcher.respond(context, seed=seed))
        try:
            while not work.done():
                await asyncio.wait([work], timeout=_POLL_S)
                if not work.done() and await request.is_disconnected():
                    raise RefusedError(499, "the client went away")
            return work.result(), False
        except QueueFullError as e:
            raise RefusedError(429, "the queue is full", retry_s=1) from e
        except TimeoutError as e:
            raise RefusedError(504, "the response took too long") from e
        except RefusedError:
            raise
        except Exception as e:
            raise RefusedError(500, "the model failed on this request") from e
        finally:
            work.cancel()

    body = {"content": {"application/json": {"schema": ChatRequest.model_json_schema()}}, "required": True}
    codes: dict[int | str, dict[str, Any]] = {s: {"description": "refused"} for s in (400, 401, 413, 429, 500, 504)}

    @app.post("/v1/chat/completions", openapi_extra={"requestBody": body}, responses=codes, response_model=None)
    async def chat(request: Request) -> JSONResponse | StreamingResponse:
        """Give the response to the messages, whole or as server-sent events."""
        admit(request)
        start = time.monotonic()
        wanted = await _read(request, config)
        try:
            context = context_of(wanted.messages)
        except InputError as e:
            raise RefusedError(400, str(e)) from e
        if emotions is not None:
            first = context.utterances[0].content
            context = context.model_copy(update={"emotion": (await asyncio.to_thread(emotions, [first]))[0]})
        text, is_fixed = await answer(request, context, wanted.seed)
        extras = await asyncio.to_thread(_extras, context, text, is_off=is_fixed)
        metrics.requests.labels("200").inc()
        metrics.seconds.observe(time.monotonic() - start)
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": agent.name}
        if wanted.stream:
            return StreamingResponse(_events(head, text, extras), media_type="text/event-stream", headers=_HEADERS)
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        return JSONResponse(head | {"object": "chat.completion", "choices": [choice], "pege": extras}, 200, _HEADERS)

    return app


async def _read(request: Request, config: ServerConfig) -> ChatRequest:
    raw = bytearray()
    async for piece in request.stream():
        raw += piece
        if len(raw) > config.max_body_bytes:
            raise RefusedError(413, f"the body is longer than {config.max_body_bytes} bytes")
    try:
        wanted = ChatRequest.model_validate_json(bytes(raw))
    except ValidationError as e:
        raise RefusedError(400, why_invalid(e)) from e
    if len(wanted.messages) > config.max_messages:
        raise RefusedError(400, f"more than {config.max_messages} messages")
    return wanted


def _extras(context: Context, response: str, *, is_off: bool) -> dict[str, Any]:
    """Give the ``pege`` field: VAD of each utterance and of the response, emotion of u1, stage of guidance."""
    texts = [u.content for u in context.utterances]
    return {
        "vad": vad_of([*texts, response]),
        "emotion": context.emotion.model_dump() if context.emotion else None,
        "guidance": guidance_of(len(texts), context.emotion, is_off=is_off),
    }


async def _events(head: dict[str, Any], text: str, extras: dict[str, Any]) -> AsyncIterator[str]:
    """The response as the chunks of the OpenAI API, a word each; the last one has the ``pege`` field."""
    words = text.split(" ")
    deltas: list[dict[str, str]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": word if k == 0 else f" {word}"} for k, word in enumerate(words)]
    for delta in deltas:
        yield _event(head, {"index": 0, "delta": delta, "finish_reason": None})
    yield _event(head | {"pege": extras}, {"index": 0, "delta": {}, "finish_reason": "stop"})
    yield "data: [DONE]\n\n"


def _event(head: dict[str, Any], choice: dict[str, Any]) -> str:
    return f"data: {json.dumps(head | {'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"
