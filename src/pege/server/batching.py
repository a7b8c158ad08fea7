"""Requests to the model: one thread generates for all, a row each; what fails for one does not reach another."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol

from pege.agent import Agent
from pege.agent.ask import Ask, End
from pege.agent.settings import Adjustable, Settings
from pege.dialog import Context

log = logging.getLogger(__name__)
_GATHER_S = 0.005  # what a first request waits for company


class QueueFullError(Exception):
    """No room for another request, or the server is stopping."""


class ModelFailedError(Exception):
    """The model could not answer this request."""


class Source(Protocol):
    """Whoever generates for the service."""

    @property
    def n_waiting(self) -> int:
        """Requests that wait."""

    async def ready(self) -> bool:
        """Whether requests are answered, an engine behind it included."""

    def stream(self, context: Context, settings: Settings) -> AsyncGenerator[str | End]:
        """Give the pieces of a response and its end. Closing the generator ends the work on it within a token.

        Raises:
            QueueFullError: too many wait.
            ModelFailedError: the model failed on this request.
        """

    def close(self, timeout_s: float) -> None:
        """Take no more requests, answer those there are, end."""


class Batch(Protocol):
    """Rows that are generated together (`pege.agent.continuous.ContinuousBatch`)."""

    @property
    def n_rows(self) -> int:
        """Rows that are generated now."""

    def admit(self, asks: Sequence[Ask]) -> None:
        """Take in new rows."""

    def step(self) -> None:
        """Give each row a token."""

    def abandon(self, error: Exception) -> None:
        """End all rows with an error."""


class WholeBatch:
    """For agents that only give whole responses: all that wait are answered at once, those of equal settings together.

    Args:
        agent: answers contexts.
    """

    n_rows = 0

    def __init__(self, agent: Agent) -> None:
        self.agent = agent

    def admit(self, asks: Sequence[Ask]) -> None:
        """Answer the requests."""
        for settings in dict.fromkeys(ask.settings for ask in asks):
            same = [ask for ask in asks if ask.settings == settings]
            # a seed repeats only what is alone in its batch
            for group in [same] if settings.seed is None else [[ask] for ask in same]:
                self._answer(group, settings)

    def step(self) -> None:
        """Nothing is left to do."""

    def abandon(self, error: Exception) -> None:
        """Nothing is left to end."""

    def _answer(self, asks: Sequence[Ask], settings: Settings) -> None:
        agent = self.agent.with_settings(settings) if isinstance(self.agent, Adjustable) else self.agent
        try:
            texts = agent.respond([ask.context for ask in asks], seed=settings.seed)
        except Exception as e:
            if len(asks) > 1:  # one bad request must not harm the others: each alone
                for ask in asks:
                    self._answer([ask], settings)
                return
            log.error("a request failed (%s)", type(e).__name__)
            asks[0].give(End("error", error=e))
            return
        for ask, text in zip(asks, texts, strict=True):
            ask.give(text)
            ask.give(End())


class _Asked:
    """A request as its event loop sees it: pieces come from another thread."""

    def __init__(self, context: Context, settings: Settings) -> None:
        self._loop, self._pieces = asyncio.get_running_loop(), asyncio.Queue[str | End]()
        self._left_off = threading.Event()
        self.ask = Ask(context, settings, self._give, self._left_off.is_set)

    def _give(self, piece: str | End) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits any more
            self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)

    async def pieces(self) -> AsyncGenerator[str | End]:
        """Give what comes, up to the end."""
        try:
            while True:
                piece = await self._pieces.get()
                if isinstance(piece, End) and piece.error is not None:
                    raise ModelFailedError(type(piece.error).__name__) from piece.error
                yield piece
                if isinstance(piece, End):
                    return
        finally:
            self._left_off.set()


class Batcher:
    """Batching of a local agent: a causal LM token by token, any other by whole responses.

    Args:
        agent: only the batcher's thread calls it.
        max_batch: rows at once.
        max_queue: requests that wait.
    """

    def __init__(self, agent: Agent, *, max_batch: int, max_queue: int) -> None:
        self.max_batch = max_batch
        self._max_queue, self._waiting = max_queue, deque[Ask]()
        self._changed = threading.Condition()  # of what waits
        self._closed = threading.Event()
        self.batch = _batch_of(agent)
        self._thread = threading.Thread(target=self._work, name="pege-batcher", daemon=True)
        self._thread.start()

    @property
    def n_waiting(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    @property
    def is_alive(self) -> bool:
        """Whether requests are answered."""
        return self._thread.is_alive() and not self._closed.is_set()

    async def ready(self) -> bool:
        """Whether requests are answered."""
        return self.is_alive

    async def stream(self, context: Context, settings: Settings) -> AsyncGenerator[str | End]:
        """Give the pieces of a response and its end; see `Source`."""
        if not self.is_alive:
            raise QueueFullError
        asked = _Asked(context, settings)
        with self._changed:
            if len(self._waiting) >= self._max_queue:
                raise QueueFullError
            self._waiting.append(asked.ask)
            self._changed.notify()
        try:
            async with contextlib.aclosing(asked.pieces()) as pieces:
                async for piece in pieces:
                    yield piece
        finally:  # who left before its turn leaves its place too
            with self._changed, contextlib.suppress(ValueError):
                self._waiting.remove(asked.ask)

    def close(self, timeout_s: float) -> None:
        """Take no more requests, answer those there are, end the thread."""
        self._closed.set()
        self._thread.join(timeout_s)

    def _work(self) -> None:
        batch = self.batch
        while not (self._closed.is_set() and not self._waiting and not batch.n_rows):
            asks = self._next(batch.n_rows)
            try:
                if asks:
                    batch.admit(asks)
                batch.step()
            except Exception as e:  # the thread must outlive a bug, or nobody is answered any more
                log.error("the batch failed (%s)", type(e).__name__)
                batch.abandon(e)
                for ask in asks:
                    ask.give(End("error", error=e))

    def _next(self, n_rows: int) -> list[Ask]:
        """Requests to take in now; where no row is generated, wait for one, and a little for company."""
        with self._changed:
            is_first = not n_rows and self._changed.wait_for(lambda: bool(self._waiting), timeout=0.1)
        if is_first:
            time.sleep(_GATHER_S)
        with self._changed:
            n = min(len(self._waiting), self.max_batch - n_rows)
            asks = [self._waiting.popleft() for _ in range(n)]
        return [ask for ask in asks if not ask.is_left_off()]


def make_source(agent: Agent, *, max_batch: int, max_queue: int) -> Source:
    """Make what generates for an agent: `Proxy` of an endpoint, else `Batcher`."""
    from pege.agent.endpoint import EndpointAgent

    if isinstance(agent, EndpointAgent):
        return Proxy(agent.answer, is_up=agent.is_up, max_parallel=max_batch, max_queue=max_queue)
    return Batcher(agent, max_batch=max_batch, max_queue=max_queue)


def _batch_of(agent: Agent) -> Batch:
    from pege.agent.trivial import TrivialAgent

    if isinstance(agent, TrivialAgent):
        return WholeBatch(agent)
    from pege.agent.continuous import ContinuousBatch

    return ContinuousBatch(agent) if ContinuousBatch.fits(agent) else WholeBatch(agent)


class Proxy:
    """An endpoint as a source: it batches by itself, here requests are only counted.

    Args:
        answer: answers one request, see `pege.agent.endpoint.EndpointAgent.answer`. What it raises ends the request.
        is_up: whether the endpoint answers.
        max_parallel: requests at once.
        max_queue: requests that wait.
    """

    _ASK_AGAIN_S = 5.0  # so long a found state of the endpoint is taken for its state

    def __init__(
        self,
        answer: Callable[[Ask], Coroutine[Any, Any, None]],
        *,
        is_up: Callable[[], Awaitable[bool]],
        max_parallel: int,
        max_queue: int,
    ) -> None:
        self._answer, self._max_queue, self._is_up = answer, max_queue, is_up
        self._room = asyncio.Semaphore(max_parallel)
        self._n_waiting, self._is_closed = 0, False
        self._asking, self._was_up, self._known_until = asyncio.Lock(), True, 0.0

    @property
    def n_waiting(self) -> int:
        """Requests that wait."""
        return self._n_waiting

    async def ready(self) -> bool:
        """Whether requests are answered: the endpoint is asked, at most once in five seconds."""
        async with self._asking:
            if time.monotonic() >= self._known_until:
                self._was_up = await self._is_up()
                self._known_until = time.monotonic() + self._ASK_AGAIN_S
        return self._was_up and not self._is_closed

    async def stream(self, context: Context, settings: Settings) -> AsyncGenerator[str | End]:
        """Give the pieces of a response and its end; see `Source`."""
        if self._is_closed or (self._room.locked() and self._n_waiting >= self._max_queue):
            raise QueueFullError
        self._n_waiting += 1
        try:
            await self._room.acquire()
        finally:
            self._n_waiting -= 1
        asked = _Asked(context, settings)
        work = asyncio.create_task(self._work(asked.ask))
        try:
            async with contextlib.aclosing(asked.pieces()) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            work.cancel()
            self._room.release()

    async def _work(self, ask: Ask) -> None:
        """Answer a request, and end it whatever happens: who asked would wait for ever."""
        error: Exception = ValueError("an answer without an end")
        try:
            await self._answer(ask)
        except Exception as e:
            log.error("a request failed (%s)", type(e).__name__)
            error = e
        ask.give(End("error", error=error))  # not read where there was an end

    def close(self, timeout_s: float) -> None:
        """Take no more requests; uvicorn waits for those there are."""
        self._is_closed = True
