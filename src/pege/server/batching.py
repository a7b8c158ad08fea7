"""Requests to the model: one thread generates for all, a row each; what fails for one does not reach another."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
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

    @property
    def is_alive(self) -> bool:
        """Whether requests are answered."""

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
        self._waiting: queue.Queue[Ask] = queue.Queue(max_queue)
        self._closed = threading.Event()
        self.batch = _batch_of(agent)
        self._thread = threading.Thread(target=self._work, name="pege-batcher", daemon=True)
        self._thread.start()

    @property
    def n_waiting(self) -> int:
        """Requests that wait."""
        return self._waiting.qsize()

    @property
    def is_alive(self) -> bool:
        """Whether requests are answered."""
        return self._thread.is_alive() and not self._closed.is_set()

    async def stream(self, context: Context, settings: Settings) -> AsyncGenerator[str | End]:
        """Give the pieces of a response and its end; see `Source`."""
        if not self.is_alive:
            raise QueueFullError
        asked = _Asked(context, settings)
        async with contextlib.aclosing(asked.pieces()) as pieces:
            try:
                self._waiting.put_nowait(asked.ask)
            except queue.Full as e:
                raise QueueFullError from e
            async for piece in pieces:
                yield piece

    def close(self, timeout_s: float) -> None:
        """Take no more requests, answer those there are, end the thread."""
        self._closed.set()
        self._thread.join(timeout_s)

    def _work(self) -> None:
        batch = self.batch
        while not (self._closed.is_set() and self._waiting.empty() and not batch.n_rows):
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
        asks: list[Ask] = []
        if not n_rows:
            with contextlib.suppress(queue.Empty):
                asks.append(self._waiting.get(timeout=0.1))
                time.sleep(_GATHER_S)
        with contextlib.suppress(queue.Empty):
            while n_rows + len(asks) < self.max_batch:
                asks.append(self._waiting.get_nowait())
        return [ask for ask in asks if not ask.is_left_off()]


def _batch_of(agent: Agent) -> Batch:
    from pege.agent.trivial import TrivialAgent

    if isinstance(agent, TrivialAgent):
        return WholeBatch(agent)
    from pege.agent.continuous import ContinuousBatch

    return ContinuousBatch(agent) if ContinuousBatch.fits(agent) else WholeBatch(agent)


class Proxy:
    """An endpoint as a source: it batches by itself, here requests are only counted.

    Args:
        answer: answers one request, see `pege.agent.endpoint.EndpointAgent.answer`.
        max_parallel: requests at once.
        max_queue: requests that wait.
    """

    def __init__(self, answer: Callable[[Ask], Any], *, max_parallel: int, max_queue: int) -> None:
        self._answer, self._max_queue = answer, max_queue
        self._room = asyncio.Semaphore(max_parallel)
        self._n_waiting, self._is_closed = 0, False

    @property
    def n_waiting(self) -> int:
        """Requests that wait."""
        return self._n_waiting

    @property
    def is_alive(self) -> bool:
        """Whether requests are answered; the endpoint itself is not asked."""
        return not self._is_closed

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
        work = asyncio.create_task(self._answer(asked.ask))
        try:
            async with contextlib.aclosing(asked.pieces()) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            work.cancel()
            self._room.release()

    def close(self, timeout_s: float) -> None:
        """Take no more requests; uvicorn waits for those there are."""
        self._is_closed = True
