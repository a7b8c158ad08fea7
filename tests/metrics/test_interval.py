"""Intervals and p-values against exact answers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from pege.metrics.interval import jackknife_interval, mean_interval, paired_p_value, sum_interval


def test_the_interval_is_near_that_of_the_normal_law():
    values = np.random.default_rng(0).normal(2.0, 1.0, 400)
    low, high = mean_interval(values)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)


@pytest.mark.parametrize("n", [7, 300])
def test_the_interval_is_that_of_scipys_bootstrap(n):
    from scipy.stats import bootstrap

    values = np.random.default_rng(n).normal(size=n)
    found = bootstrap((values,), np.mean, method="percentile", batch=2_000_000 // n, rng=np.random.default_rng(5))
    expected = (found.confidence_interval.low, found.confidence_interval.high)
    assert mean_interval(values, seed=5) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("values", [[0.3], [0.3, 0.3, 0.3]])
def test_without_spread_both_ends_are_the_value(values):
    assert mean_interval(values) == pytest.approx((0.3, 0.3))


def test_few_pairs_give_the_exact_p_value():
    difference = np.array([0.5, 0.2, 0.9, -0.1, 0.4])
    means = [abs(np.mean(difference * s)) for s in itertools.product((1, -1), repeat=5)]
    exact = np.mean([m >= abs(difference.mean()) - 1e-12 for m in means])
    assert paired_p_value(difference, np.zeros(5)) == pytest.approx(exact)


def test_equal_pairs_have_p_one_and_the_seed_decides():
    a = np.random.default_rng(1).normal(size=50)
    assert paired_p_value(a, a) == 1.0
    assert paired_p_value(a, -a, seed=3) == paired_p_value(a, -a, seed=3)


def test_the_interval_of_a_mean_is_the_same_by_sums_and_by_leaving_out():
    values = np.random.default_rng(0).integers(0, 9, 200)
    rows = np.column_stack((values, np.ones(200, dtype=int)))
    expected = pytest.approx(mean_interval(values.astype(float)), abs=0.02)
    assert sum_interval(rows, lambda sums: sums[0] / sums[1]) == expected
    without = (values.sum() - values) / 199
    assert jackknife_interval(values.mean(), without) == expected


def test_a_single_dialog_has_no_spread():
    assert sum_interval(np.array([[3, 4]]), lambda sums: sums[0] / sums[1], n_resamples=9) == (0.75, 0.75)
    assert jackknife_interval(0.75, np.array([0.0])) == (0.75, 0.75)
