"""Bootstrap intervals over dialogs and the paired permutation test, seeded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

N_RESAMPLES = 9_999


def mean_interval(
    values: Sequence[float] | NDArray[np.float64],
    *,
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean; both ends the value itself where there is one or all are equal."""
    data = np.asarray(values, dtype=np.float64)
    if len(data) == 0:
        return float("nan"), float("nan")
    if len(data) == 1 or np.ptp(data) == 0:
        return float(data.mean()), float(data.mean())
    rng, n = np.random.default_rng(seed), len(data)
    size = max(1, 2_000_000 // n)
    # the draws and quantiles of scipy.stats.bootstrap, whose import takes longer than these
    means = [
        data[rng.integers(n, size=(min(size, n_resamples - k), n))].mean(axis=1) for k in range(0, n_resamples, size)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def sum_interval(
    rows: NDArray[np.int64],
    statistic: Callable[[NDArray[np.int64]], float],
    *,
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a score of a whole corpus that is computed from sums over its dialogs.

    Args:
        rows: (N, K), the counts of each dialog.
        statistic: the score, of the sums (K,).
        seed: of the resamples.
        n_resamples: how many.
        confidence: of the interval.
    """
    rng = np.random.default_rng(seed)
    n = len(rows)
    size = max(1, 2_000_000 // n)
    found: list[float] = []
    while len(found) < n_resamples:
        r = min(size, n_resamples - len(found))
        picked = rng.integers(n, size=(r, n)) + n * np.arange(r)[:, None]  # (R, N)
        drawn = np.bincount(picked.ravel(), minlength=r * n).reshape(r, n)  # how often each dialog
        sums = drawn.astype(np.float64) @ rows  # (R, N) @ (N, K) -> (R, K); exact, and floats are what BLAS multiplies
        found += [statistic(row) for row in sums.astype(np.int64)]
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def jackknife_interval(
    score: float,
    without: NDArray[np.float64],
    *,
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Interval of a score of a whole corpus that resampling would bias: bootstrap of what each dialog adds to it.

    Args:
        score: of all N dialogs.
        without: (N,), the score of the corpus without each dialog.
        seed: of the resamples.
        n_resamples: how many.
        confidence: of the interval.
    """
    added = (len(without) - 1) * (without.mean() - without)  # (N,), sums to 0
    return mean_interval(score + added, seed=seed, n_resamples=n_resamples, confidence=confidence)


def paired_p_value(
    a: Sequence[float] | NDArray[np.float64],
    b: Sequence[float] | NDArray[np.float64],
    *,
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
) -> float:
    """Two-sided p-value of the paired permutation test that the mean of a - b is 0; 1 where all pairs are equal."""
    from scipy.stats import permutation_test

    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    if len(difference) == 0 or not difference.any():
        return 1.0
    found = permutation_test(
        (difference,),
        lambda x, axis: np.mean(x, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=n_resamples,
        batch=max(1, 2_000_000 // len(difference)),
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)
