"""Self-chat on a Ray cluster: batches are played side by side by workers, each with both agents of its own."""

from __future__ import annotations

import contextlib
import functools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pege.agent import Agent
from pege.cluster import n_gpus, ray_cluster
from pege.dialog import Dialog
from pege.errors import InputError
from pege.selfchat.batches import OnUtterances
from pege.selfchat.play import MakeBatch, play_batch

Load = Callable[[], tuple[Agent, Agent]]


class _Worker:
    """Both agents, loaded for the first batch: what is wrong with them is then told as an error of that."""

    def __init__(self, folder: Path, load: Load) -> None:
        os.chdir(folder)  # runs and files are named as where the command was given
        self._load = load

    @functools.cached_property
    def _agents(self) -> tuple[Agent, Agent]:
        return self._load()

    def play(self, starters: Sequence[Dialog], **how: Any) -> tuple[list[Dialog], int]:
        return play_batch(*self._agents, starters, **how)


@contextlib.contextmanager
def on_ray(
    load: Load, *, n_turns: int, seed: int, address: str | None = None, n_workers: int | None = None
) -> Iterator[MakeBatch]:
    """Give what plays batches for `write_selfchat`; dialogs depend on their batch alone, not on who plays it.

    From the first batch that is asked for, all that follow are played, and handed out in order. A worker that is lost
    is started again and plays its batch anew.

    Args:
        load: gives the candidate and the user, on the worker: models must lie where all machines see them, and an
            endpoint's key be in their environment.
        n_turns: as `write_selfchat` is told.
        seed: likewise.
        address: of the cluster; one on this machine unless named.
        n_workers: one a GPU, or one where there is none, unless named. Without GPUs they share the processors.

    Raises:
        InputError: Ray is not installed, no cluster is there, or so many workers do not fit; what agents raise.
    """
    with ray_cluster(address) as ray:
        gpus = n_gpus(ray)
        n = n_workers or max(gpus, 1)
        worker = ray.remote(max_restarts=2, max_task_retries=2, scheduling_strategy="SPREAD", **_share(ray, n, gpus))(
            _Worker
        )
        workers = [worker.remote(Path.cwd(), load) for _ in range(n)]
        results: Iterator[Any] | None = None

        def make(
            batches: Sequence[Sequence[Dialog]], batch: int, on_utterances: OnUtterances
        ) -> tuple[list[Dialog], int]:
            nonlocal results
            if results is None:
                results = ray.util.ActorPool(workers).map(
                    lambda w, b: w.play.remote(batches[b], n_turns=n_turns, seed=seed, batch=b),
                    list(range(batch, len(batches))),
                )
            try:
                dialogs, n_fallbacks = next(results)
            except ray.exceptions.RayTaskError as e:
                raise e.cause from None
            on_utterances(sum(len(d.messages) - 1 for d in dialogs))
            return dialogs, n_fallbacks

        yield make


def _share(ray: Any, n_workers: int, gpus: int) -> dict[str, float]:
    """Give what each of so many workers takes, so that all fit."""
    if gpus:  # several share a GPU where they are more
        return {"num_cpus": 0, "num_gpus": math.floor(1e4 / math.ceil(n_workers / gpus)) / 1e4}
    cpus = [int(m["Resources"].get("CPU", 0)) for m in ray.nodes() if m["Alive"]]
    fitting = next((k for k in range(max(cpus), 0, -1) if sum(c // k for c in cpus) >= n_workers), None)
    if fitting is None:
        raise InputError(f"{n_workers} workers do not fit", fix=f"--workers, at most {sum(cpus)}")
    return {"num_cpus": fitting, "num_gpus": 0}
