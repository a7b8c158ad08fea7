"""Shape of MoEL."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pege.models.listener_layers import ListenerConfig


class MoelConfig(ListenerConfig):
    """Shape, token ids and schedule of a MoEL model; the defaults are those of the published command.

    Attributes:
        n_top_listeners: of so many listeners, the likeliest, the outputs are mixed; 0 for all.
        oracle_steps: training steps in which the true emotion's share falls to 1 / e; 0 for no such steps.
        oracle_floor: share of the steps that see the true emotion to the last.
        oracle_seed: which steps see it.
    """

    model_type = "moel"

    n_top_listeners: int = 5
    oracle_steps: int = 10_000
    oracle_floor: float = 0.0001
    oracle_seed: int = 0

    def __post_init__(self, **kwargs: Any) -> None:
        if self.n_top_listeners < 0:
            raise ValueError(f"n_top_listeners {self.n_top_listeners} is below 0")
        super().__post_init__(**kwargs)

    def oracle_share(self, step: int) -> float:
        """Give the probability that a training step sees the true emotion instead of the predicted one.

        Args:
            step: from 0.
        """
        if not self.oracle_steps:
            return 0.0
        return self.oracle_floor + (1 - self.oracle_floor) * math.exp(-step / self.oracle_steps)

    def is_oracle_step(self, step: int) -> bool:
        """Give whether a training step sees the true emotion: drawn by the seed and the step alone."""
        return bool(np.random.default_rng((self.oracle_seed, step)).random() < self.oracle_share(step))
