"""Claims that were written before a run, and what its scores say of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pege.metrics.interval import N_RESAMPLES, paired_p_value
from pege.reproduce.config import Claim

Verdict = Literal["holds", "does not", "undecided"]
Values = NDArray[np.float64]
LEVEL = 0.05


@dataclass(frozen=True)
class Finding:
    """What the scores say of one claim on one base.

    Attributes:
        difference: better - worse, mean over starters of the mean over seeds.
        interval: of it, 95 %, bootstrap over seeds and starters (`two_level_interval`).
        by_seed: the difference of each seed.
        p: two-sided, paired permutation over starters.
        p_holm: corrected for all claims of the study.
        verdict: see `judge_claims`.
    """

    number: str
    base: str
    claim: Claim
    n_starters: int
    difference: float
    interval: tuple[float, float]
    by_seed: tuple[float, ...]
    p: float
    p_holm: float
    verdict: Verdict


def judge_claims(claims: Mapping[tuple[str, str], tuple[Claim, Values, Values]], *, seed: int = 0) -> list[Finding]:
    """Test claims and correct for all of them (Holm 1979).

    Values of a starter are averaged over the seeds first, so that each counts once; the signs of the differences
    are then permuted. A claim *holds* where corrected p < 0.05, the interval lies above 0 and the difference is at
    least the effect that counts. It does *not* where the interval lies below that effect, or the difference is the
    other way round with corrected p < 0.05. Else it is *undecided*.

    Args:
        claims: (number, base) -> the claim, and the scores of its better and worse row, (seeds, starters) each.
        seed: of the resamples.
    """
    tested = {}
    for key, (claim, better, worse) in claims.items():
        x, y = better.mean(axis=0), worse.mean(axis=0)  # (starters,)
        tested[key] = (claim, x - y, paired_p_value(x, y, seed=seed), tuple(_by_seed(better, worse)))
    corrected = holm([p for _, _, p, _ in tested.values()])
    found = []
    for (key, (claim, gap, p, by_seed)), p_holm in zip(tested.items(), corrected, strict=True):
        interval = two_level_interval(*claims[key][1:], seed=seed)
        verdict = _verdict(float(gap.mean()), interval, p_holm, claim.effect)
        found.append(Finding(*key, claim, len(gap), float(gap.mean()), interval, by_seed, p, p_holm, verdict))
    return found


def two_level_interval(better: Values, worse: Values, *, seed: int = 0) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean of better - worse, drawing each side's seeds, and the starters.

    Two seeds of one system differ, and a test over starters alone does not see it. With three seeds this is coarse.

    Args:
        better: (seeds, starters).
        worse: (seeds, starters), the same starters.
        seed: of the resamples.
    """
    rng = np.random.default_rng(seed)
    n = better.shape[1]
    drawn = rng.multinomial(n, np.full(n, 1 / n), N_RESAMPLES) / n  # (R, starters)
    means = []
    for side in (better, worse):
        seeds = rng.multinomial(len(side), np.full(len(side), 1 / len(side)), N_RESAMPLES) / len(side)  # (R, seeds)
        means.append(np.einsum("rs,sn,rn->r", seeds, side, drawn, optimize=True))
    low, high = np.quantile(means[0] - means[1], [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


def _by_seed(better: Values, worse: Values) -> list[float]:
    """Differences seed by seed; none where the rows have different seeds."""
    return (better - worse).mean(axis=1).tolist() if better.shape == worse.shape else []


def _verdict(difference: float, interval: tuple[float, float], p_holm: float, effect: float) -> Verdict:
    if p_holm < LEVEL and interval[0] > 0 and difference >= effect:
        return "holds"
    if interval[1] < effect or (p_holm < LEVEL and difference < 0):
        return "does not"
    return "undecided"


def holm(p_values: Sequence[float]) -> list[float]:
    """Give Holm's corrected p-values, in the order given."""
    order = np.argsort(p_values, kind="stable")
    n = len(p_values)
    corrected = np.empty(n)
    worst = 0.0
    for rank, k in enumerate(order):
        worst = max(worst, min(1.0, (n - rank) * p_values[k]))
        corrected[k] = worst
    return [float(c) for c in corrected]


def signature(n_claims: int) -> str:
    """Give the string that pins the tests."""
    how = "test:paired-permutation|unit:starter|over-seeds:mean|interval:seeds+starters"
    return f"claims|{how}|n:{N_RESAMPLES}|holm:{n_claims}|level:{LEVEL}"
