"""Self-chat on a Ray cluster: batches are played side by side by workers, each with both agents of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pege.agent import Agent
from pege.cluster import n_gpus, ray_cluster
from pege.dialog import Dialog
from pege.selfchat.batches import OnUtterances
from pege.selfchat.play import MakeBatch, n_fallbacks_of, play_dialogs

Load = Callable[[], tuple[Agent, Agent]]


class _Worker:
    """Agents of one worker."""

    def __init__(self, load: Load) -> None:
        self.agent, self.user = load()

    def play(self, starters: Sequence[Dialog], n_turns: int, seed: int, batch: int) -> tuple[list[Dialog], int]:
        """Give a batch's dialogs, and how often an agent fell back to fixed words in it."""
        before = n_fallbacks_of(self.agent, self.user)
        dialogs = play_dialogs(self.agent, self.user, starters, n_turns=n_turns, seed=seed, batch=batch)
        return dialogs, n_fallbacks_of(self.agent, self.user) - before


@contextlib.contextmanager
def on_ray(load: Load, *, address: str | None = None, n_workers: int | None = None) -> Iterator[MakeBatch]:
    """Give what plays batches for `write_selfchat`; dialogs depend on their batch alone, not on who plays it.

    From the first batch that is asked for, all that follow are played, and handed out in order. A worker that is lost
    is started again and plays its batch anew.

    Args:
        load: gives the candidate and the user, on the worker: models must lie where all machines see them.
        address: of the cluster; one on this machine unless named.
        n_workers: one a GPU, or one where there is none, unless named. Without GPUs they share the processors.

    Raises:
        InputError: Ray is not installed, or no cluster is there.
    """
    with ray_cluster(address) as ray:
        gpus = n_gpus(ray)
        n = n_workers or max(gpus, 1)
        n_cpus = 1 if gpus else max(int(ray.cluster_resources().get("CPU", 1)) // n, 1)
        worker = ray.remote(num_cpus=n_cpus, num_gpus=min(gpus / n, 1), max_restarts=2, max_task_retries=2)(_Worker)
        workers = [worker.remote(load) for _ in range(n)]
        results: Iterator[Any] | None = None

        def make(
            batches: Sequence[Sequence[Dialog]], batch: int, n_turns: int, seed: int, on_utterances: OnUtterances
        ) -> tuple[list[Dialog], int]:
            nonlocal results
            if results is None:
                todo = range(batch, len(batches))
                results = ray.util.ActorPool(workers).map(
                    lambda w, b: w.play.remote(batches[b], n_turns, seed, b), list(todo)
                )
            dialogs, n_fallbacks = next(results)
            on_utterances(sum(len(d.messages) - 1 for d in dialogs))
            return dialogs, n_fallbacks

        yield make
