"""How far probabilities can be believed: temperature scaling and the expected calibration error."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def softmax(logits: Array, *, temperature: float = 1.0) -> Array:
    """Give probabilities of logits (N, K) at a temperature; rows sum to 1."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    exps = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probabilities: Array = exps / exps.sum(axis=1, keepdims=True)
    return probabilities


def fit_temperature(logits: Array, classes: NDArray[np.int64]) -> float:
    """Give the temperature T that makes softmax(logits / T) most likely (Guo et al. 2017).

    Args:
        logits: (N, K) on texts that training did not see.
        classes: (N,) what they are.

    Returns:
        T in [0.05, 20].

    Raises:
        ValueError: no text.
    """
    from scipy.optimize import minimize

    if not len(classes):
        raise ValueError("no text to fit a temperature on")
    rows = np.arange(len(classes))

    def loss(log_temperature: Array) -> float:
        p = softmax(logits, temperature=float(np.exp(log_temperature[0])))
        return float(-np.log(np.maximum(p[rows, classes], 1e-12)).mean())

    bound = float(np.log(20))
    found = minimize(loss, np.zeros(1), method="L-BFGS-B", bounds=[(-bound, bound)])
    return float(np.exp(found.x[0]))


def expected_calibration_error(probabilities: Array, classes: NDArray[np.int64], *, n_bins: int = 15) -> float:
    """Give the mean gap between confidence and accuracy, over bins of equal width weighted by their size.

    ECE = sum_b (n_b / N) |accuracy_b - confidence_b|, where confidence is the largest probability.

    Args:
        probabilities: (N, K), rows sum to 1.
        classes: (N,) what the texts are.
        n_bins: bins over (0, 1].

    Returns:
        A number in [0, 1]; 0 is best.
    """
    confidence = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == classes).astype(np.float64)
    bins = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    gap = np.bincount(bins, weights=right - confidence, minlength=n_bins)  # n_b (accuracy_b - confidence_b)
    return float(np.abs(gap).sum() / len(classes))
