"""Steps timed in turns, so that a noisy machine disturbs all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

Step = Callable[[], None]
Name = TypeVar("Name")


def time_steps(steps: Mapping[Name, Step], repeats: int) -> dict[Name, list[float]]:
    """Seconds of each step, the steps taking turns; a first round warms up."""
    times: dict[Name, list[float]] = {name: [] for name in steps}
    for k in range(repeats + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if k:
                times[name].append(time.perf_counter() - start)
    return times
