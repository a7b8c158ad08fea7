"""Requests to batches: one thread answers what waits together, and an error of one does not reach another."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pege.agent import Agent
from pege.dialog import Context

log = logging.getLogger(__name__)
_GATHER_S = 0.005  # what a first request waits for company


class QueueFullError(Exception):
    """No room for another request."""


@dataclass
class _Job:
    context: Context
    seed: int | None
    deadline: float
    future: asyncio.Future[str]
    loop: asyncio.AbstractEventLoop
    left_off: threading.Event = field(default_factory=threading.Event)

    def settle(self, act: Callable[[], None]) -> None:
        def safely() -> None:
            if not self.future.done():
                act()

        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits any more
            self.loop.call_soon_threadsafe(safely)


class Batcher:
    """Dynamic batching of an agent.

    Args:
        agent: answers contexts; only the batcher's thread calls it.
        max_batch: contexts of a call.
        max_queue: requests that wait.
        timeout_s: of one request, waiting included.
    """

    def __init__(self, agent: Agent, *, max_batch: int, max_queue: int, timeout_s: float) -> None:
        self.agent, self.max_batch, self.timeout_s = agent, max_batch, timeout_s
        self._waiting: queue.Queue[_Job] = queue.Queue(max_queue)
        self._closed = threading.Event()
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

    async def respond(self, context: Context, *, seed: int | None = None) -> str:
        """Give the response to one context. Cancelling the caller takes a request that waits off the queue.

        Raises:
            QueueFullError: too many wait, or the server is stopping.
            TimeoutError: it took longer than ``timeout_s``.
        """
        loop = asyncio.get_running_loop()
        job = _Job(context, seed, time.monotonic() + self.timeout_s, loop.create_future(), loop)
        if self._closed.is_set():
            raise QueueFullError
        try:
            self._waiting.put_nowait(job)
        except queue.Full as e:
            raise QueueFullError from e
        try:
            return await asyncio.wait_for(job.future, self.timeout_s)
        finally:
            job.left_off.set()

    def close(self) -> None:
        """Take no more requests, answer those that wait, end the thread."""
        self._closed.set()
        self._thread.join(self.timeout_s)

    def _work(self) -> None:
        while not (self._closed.is_set() and self._waiting.empty()):
            try:
                jobs = [self._waiting.get(timeout=0.1)]
            except queue.Empty:
                continue
            time.sleep(_GATHER_S)
            while len(jobs) < self.max_batch and not self._waiting.empty():
                jobs.append(self._waiting.get_nowait())
            jobs = [j for j in jobs if not j.left_off.is_set() and time.monotonic() < j.deadline]
            seeded = [[j] for j in jobs if j.seed is not None]  # a seed repeats only what is alone in its batch
            for batch in [[j for j in jobs if j.seed is None], *seeded]:
                if batch:
                    self._answer(batch)

    def _answer(self, jobs: list[_Job]) -> None:
        try:
            texts = self.agent.respond([j.context for j in jobs], seed=jobs[0].seed)
        except Exception as e:
            if len(jobs) > 1:  # one bad request must not harm the others: each alone
                for job in jobs:
                    self._answer([job])
                return
            log.error("a request failed (%s)", type(e).__name__)
            error = e
            jobs[0].settle(lambda: jobs[0].future.set_exception(error))
            return
        for job, text in zip(jobs, texts, strict=True):
            job.settle(lambda job=job, text=text: job.future.set_result(text))  # type: ignore[misc]
