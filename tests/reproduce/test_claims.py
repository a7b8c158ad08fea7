"""Claims: Holm's correction by hand, verdicts of made-up scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pege.reproduce.claims import holm, judge_claims, two_level_interval
from pege.reproduce.config import Claim


def claim(effect=0.1):
    return Claim(says="a beats b", source="here", score="pege", better="a", worse="b", effect=effect)


def test_holm_is_what_it_is_by_hand():
    # sorted 0.01, 0.02, 0.03, 0.4 times 4, 3, 2, 1 -> 0.04, 0.06, 0.06, 0.4, never falling
    assert holm([0.4, 0.01, 0.03, 0.02]) == pytest.approx([0.4, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_a_corrected_p_is_never_smaller_and_keeps_the_order(p):
    corrected = holm(p)
    assert all(c >= a or c == 1 for a, c in zip(p, corrected, strict=True))
    assert sorted(corrected) == [corrected[k] for k in np.argsort(p, kind="stable")]


def sides(gap, spread, n=100, n_seeds=3, seed=0):
    """Scores with a mean difference, and noise of which nothing is shared."""
    rng = np.random.default_rng(seed)
    worse = rng.normal(0, spread, (n_seeds, n))
    return worse + gap + rng.normal(0, spread, (n_seeds, n)), worse


@pytest.mark.parametrize(
    ("gap", "spread", "verdict"),
    [
        (0.3, 0.2, "holds"),
        (-0.3, 0.2, "does not"),  # the other way round
        (0.01, 0.05, "does not"),  # an effect that counts is ruled out
        (0.1, 2.0, "undecided"),
    ],
)
def test_verdicts(gap, spread, verdict):
    (found,) = judge_claims({("1", "base"): (claim(), *sides(gap, spread))})
    assert found.verdict == verdict
    assert found.interval[0] < found.difference < found.interval[1]
    assert len(found.by_seed) == 3


def test_a_large_effect_that_many_other_claims_drown_is_undecided():
    alone = judge_claims({("1", "base"): (claim(), *sides(1.5, 0.5, n=8, seed=1))})[0]
    assert alone.verdict == "holds"
    others = {(str(k), "base"): (claim(), *sides(0.0, 2.0, n=8, seed=k)) for k in range(2, 12)}
    together = judge_claims({("1", "base"): (claim(), *sides(1.5, 0.5, n=8, seed=1)), **others})[0]
    assert together.p == alone.p
    assert together.p_holm > alone.p_holm
    assert together.verdict == "undecided"


def test_rows_with_other_seeds_are_compared_by_their_means():
    better, worse = sides(0.3, 0.2)
    (found,) = judge_claims({("1", "base"): (claim(), better[:1], worse)})
    assert found.by_seed == ()
    assert found.difference == pytest.approx((better[0] - worse.mean(axis=0)).mean())


def test_the_interval_sees_that_seeds_differ():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.01, (2, 3, 100))
    alike = two_level_interval(noise[0] + 0.1, noise[1])
    apart = two_level_interval(noise[0] + 0.1 + np.array([[-0.2], [0.0], [0.2]]), noise[1])
    assert 0.09 < alike[0] < alike[1] < 0.11
    assert apart[0] < 0 < 0.2 < apart[1]


def test_with_one_seed_a_side_the_interval_is_that_of_the_paired_differences():
    from pege.metrics.interval import mean_interval

    better, worse = sides(0.2, 0.5, n_seeds=1)
    assert two_level_interval(better, worse) == pytest.approx(mean_interval((better - worse)[0]), abs=0.01)
