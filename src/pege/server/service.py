"""The one place between HTTP and the agent, of the API and of the web chat: safety, streaming, limits, extras."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pege.agent import GuardedAgent
from pege.agent.ask import End
from pege.agent.guarded import CHECK_FAILED, Look
from pege.agent.settings import Settings
from pege.agent.turn import Turn
from pege.dialog import Context
from pege.server.batching import ModelFailedError, QueueFullError, Source, make_source
from pege.server.messages import guidance_of, vad_of
from pege.server.metrics import Metrics

__all__ = ["Done", "Event", "ModelFailedError", "Piece", "QueueFullError", "Service", "Settings"]

log = logging.getLogger(__name__)
_T = TypeVar("_T")
_N_FILTERS = 4  # a sentence takes it a millisecond
_OUTCOMES = {QueueFullError: "queue-full", TimeoutError: "timeout", ModelFailedError: "failed"}


@dataclass(frozen=True)
class Piece:
    """Text of the response that may be shown: the output filter has read it. Pieces are joined as they are.

    Attributes:
        text: of it.
        had_crisis: whether guidance is off from now on, for the rest of the dialog.
    """

    text: str
    had_crisis: bool = False


@dataclass(frozen=True)
class Done:
    """The end of a response.

    Attributes:
        text: all pieces.
        is_fixed: whether the whole text is fixed: of a crisis, or of a response that was refused at its start.
        kind: ``self-harm``, ``harm-to-others`` or ``abuse`` where it answers a crisis, ``earlier`` where nobody may
            answer after one, ``check-failed``; else None.
        reason: why the model's response was cut or replaced by fixed text; None where it was not.
        finish: ``length`` where the limit of tokens cut it, else ``stop``.
        n_prompt: tokens read, where known.
        n_new: tokens generated, where known.
        extras: the ``pege`` field: ``vad`` of each utterance and of the response, ``emotion`` of u1, ``guidance``
            (``weight``, ``stage``), ``crisis``, ``refused``.
    """

    text: str
    is_fixed: bool
    kind: str | None
    reason: str | None
    finish: Literal["stop", "length"]
    n_prompt: int | None
    n_new: int | None
    extras: dict[str, Any]


Event = Piece | Done


class _Hands:
    """Threads for the checks of texts, with a bound on what waits for them."""

    def __init__(self, name: str, n_threads: int, n_waiting: int) -> None:
        self._pool = ThreadPoolExecutor(n_threads, thread_name_prefix=name)
        self._n, self._most = 0, n_threads + n_waiting

    async def run(
        self,
        deadline: float,
        work: Callable[..., _T],
        *given: Any,
        left: Callable[[Future[Any]], None] = lambda _: None,
    ) -> _T:
        """Do work in a thread; what nobody waits for any more is not begun, and what has begun keeps its place.

        Args:
            deadline: in seconds of ``time.monotonic``.
            work: called with what is given.
            given: to it.
            left: told of work that goes on though nobody waits for it.

        Raises:
            QueueFullError: too much waits.
            TimeoutError: it was not done at the deadline.
        """
        if self._n >= self._most:
            raise QueueFullError
        loop, wanted = asyncio.get_running_loop(), [given]

        def act() -> Any:
            return work(*wanted[0]) if wanted else None

        self._n += 1
        done = self._pool.submit(act)
        done.add_done_callback(lambda _: _tell(loop, self._give_back))
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                found: _T = await asyncio.shield(asyncio.wrap_future(done))
                return found
        except BaseException:
            wanted.clear()
            left(done)
            raise

    def _give_back(self) -> None:
        self._n -= 1

    def close(self) -> None:
        """Take no more work."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _tell(loop: asyncio.AbstractEventLoop, act: Callable[..., None], *given: Any) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(act, *given)


class Service:
    """Responses of one guarded agent, streamed. Make it in the event loop's thread, close it at the end.

    Args:
        agent: answers, behind the safety path.
        max_batch: rows of a local model at once; requests to an endpoint at once.
        max_queue: requests that wait.
        timeout_s: of a request, waiting included.
        max_tokens: of a response, whatever a request wants.
        max_per_key: responses of one key at once.
    """

    def __init__(
        self,
        agent: GuardedAgent,
        *,
        max_batch: int = 8,
        max_queue: int = 64,
        timeout_s: float = 120.0,
        max_tokens: int = 512,
        max_per_key: int = 32,
    ) -> None:
        self.agent, self.timeout_s, self.max_tokens = agent, timeout_s, max_tokens
        self._max_per_key, self._n_open = max_per_key, Counter[str]()
        self.source = self._support = make_source(agent.agent, max_batch=max_batch, max_queue=max_queue)
        if agent.support not in (None, agent.agent):
            self._support = make_source(agent.support, max_batch=max_batch, max_queue=max_queue)
        # a guard may take its time, but nobody's response waits for another's check
        self._checks = _Hands("pege-check", max_batch, max_queue)
        self._filter = _Hands("pege-filter", _N_FILTERS, max_batch + max_queue)
        self.metrics = Metrics(lambda: self.source.n_waiting)

    async def stream(
        self, context: Context, settings: Settings | None = None, *, key: str = ""
    ) -> AsyncGenerator[Event]:
        """Give the response to a context: `Piece` after `Piece`, then one `Done`.

        Closing the generator (``aclosing``), or cancelling who reads it, frees its row within a token. Fixed text waits
        for nobody and is one piece. Who asks with a key has so many places only; without keys all are one.

        Raises:
            QueueFullError: too many wait, or of this key; or the server is stopping.
            TimeoutError: it took longer than ``timeout_s``; what was given before stands.
            ModelFailedError: the model failed on this request.
        """
        start, outcome, first_s = time.monotonic(), "left", None  # left by the client, as long as nothing else is known
        done: Done | None = None
        self._n_open[key] += 1
        try:
            if key and self._n_open[key] > self._max_per_key:
                raise QueueFullError("too many requests of this key at once")
            async with aclosing(self._respond(context, settings or Settings(), start + self.timeout_s, key)) as events:
                async for event in events:
                    first_s = first_s or time.monotonic() - start
                    if isinstance(event, Done):
                        done, outcome = event, "done"
                    yield event
        except (QueueFullError, TimeoutError, ModelFailedError) as e:
            outcome = _OUTCOMES[type(e)]
            raise
        except Exception as e:  # a fault of ours: whoever asked is told, in the words of the API
            log.error("a request failed (%s)", type(e).__name__, exc_info=e)
            outcome = "failed"
            raise ModelFailedError(type(e).__name__) from e
        finally:
            self._leave(key)
            self._count(outcome, done, first_s, time.monotonic() - start)

    def _leave(self, key: str) -> None:
        self._n_open[key] -= 1
        if not self._n_open[key]:
            del self._n_open[key]

    def _keep_place(self, key: str, check: Future[Any]) -> None:
        """A check that goes on after its client left holds a place of the key until it ends."""
        loop = asyncio.get_running_loop()
        self._n_open[key] += 1
        check.add_done_callback(lambda _: _tell(loop, self._leave, key))

    async def _respond(self, context: Context, wanted: Settings, deadline: float, key: str) -> AsyncGenerator[Event]:
        left = functools.partial(self._keep_place, key)
        look = await self._checks.run(deadline, self.agent.look, context, left=left)
        if look.fixed is not None:
            yield Piece(look.fixed, had_crisis=look.kind != CHECK_FAILED)
            yield await self._done(look, None, End(), deadline)
            return
        own = getattr(self.agent.speaker(look), "generation", {})
        limit = min(wanted.max_tokens or own.get("max_new_tokens") or own.get("max_tokens") or 80, self.max_tokens)
        wanted = wanted.model_copy(update={"max_tokens": limit})
        source = self._support if look.context.is_supportive else self.source
        turn, end, is_again = look.turn(stops=wanted.stop), End(), False
        while turn.is_open:
            try:
                async with aclosing(source.stream(look.context, wanted)) as pieces:
                    while turn.wants_more:
                        async with asyncio.timeout(deadline - time.monotonic()):
                            piece = await anext(pieces)
                        if isinstance(piece, End):
                            end = piece
                            break
                        if turn.take(piece) and (shown := await self._filter.run(deadline, turn.let_out)):
                            yield Piece(shown, had_crisis=look.context.is_supportive)
                shown = await self._filter.run(deadline, turn.end)
            except (QueueFullError, ModelFailedError):
                if not is_again:
                    raise
                shown = turn.give_up("failed")
            if shown:
                yield Piece(shown, had_crisis=look.context.is_supportive)
            wanted, is_again = wanted.again(), True
        yield await self._done(look, turn, end, deadline)

    @property
    def _sources(self) -> list[Source]:
        return [self.source] if self._support is self.source else [self.source, self._support]

    async def is_ready(self) -> bool:
        """Whether requests are answered, by engines behind it too."""
        return all([await source.ready() for source in self._sources])

    def close(self) -> None:
        """Take no more requests, and answer those there are."""
        deadline = time.monotonic() + self.timeout_s
        for source in self._sources:
            source.close(max(0.0, deadline - time.monotonic()))
        self._checks.close()
        self._filter.close()

    def _count(self, outcome: str, done: Done | None, first_s: float | None, seconds: float) -> None:
        """Note a response in metrics and log: no text, and not that it answered a crisis, which is of a person."""
        self.metrics.responses.labels(outcome).inc()
        fields: dict[str, Any] = {"outcome": outcome, "seconds": round(seconds, 3)}
        if first_s is not None:
            self.metrics.first.observe(first_s)
            fields["first_s"] = round(first_s, 3)
        if done is not None:
            self.metrics.whole.observe(seconds)
            self.metrics.fixed.inc(done.kind is not None)
            self.metrics.refused.inc(done.reason is not None)
            self.metrics.tokens.inc(done.n_new or 0)
            fields |= {"n_prompt": done.n_prompt, "n_new": done.n_new}
        log.info("response", extra={"fields": fields})

    async def _done(self, look: Look, turn: Turn | None, end: End, deadline: float) -> Done:
        text = turn.text if turn else look.fixed or ""
        reason = turn.reason if turn else None
        texts = [*(u.content for u in look.context.utterances), text]
        try:
            vad = await self._filter.run(deadline, vad_of, texts)
        except Exception as e:  # must not keep a fixed text from the person
            log.error("the VAD of a dialog failed (%s)", type(e).__name__)
            vad = [None] * len(texts)
        extras = _extras(look, reason, vad)
        finish: Literal["stop", "length"] = "length" if end.finish == "length" and reason is None else "stop"
        is_fixed = turn is None or turn.is_fixed
        return Done(text, is_fixed, look.kind, reason, finish, end.n_prompt, end.n_new, extras)


def _extras(look: Look, reason: str | None, vad: list[dict[str, float] | None]) -> dict[str, Any]:
    """The ``pege`` field of a response."""
    is_off = look.fixed is not None or look.context.is_supportive
    return {
        "vad": vad,
        "emotion": look.emotion.model_dump() if look.emotion else None,
        "guidance": guidance_of(len(look.context.utterances), look.emotion, is_off=is_off),
        "crisis": look.kind,
        "refused": reason,
    }
