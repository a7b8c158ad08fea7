"""A full study by simulated raters with known error rates: table and agreement come out as these rates predict."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from simulation import SYSTEMS, compare, p_majority, simulate

from browsing import CHROMIUM


def test_the_majority_of_three_is_right_more_often_than_each():
    assert p_majority((0.9, 0.9, 0.9)) == pytest.approx(0.972)  # 0.9^3 + 3 * 0.9^2 * 0.1


@pytest.mark.slow
def test_a_full_study_gives_what_the_error_rates_predict(tmp_path):
    run = simulate(tmp_path, n_browser=10 if CHROMIUM else 0)
    ratings = Counter((r.item, r.metric) for r in run["rows"])
    assert len(ratings) == len(SYSTEMS) * 50 * (2 * 10 + 2)
    assert set(ratings.values()) == {3}
    assert {r.rater for r in run["rows"]} == set(run["errors"])  # the excluded one is left out
    rows = list(compare(run))
    held = [low <= predicted <= high for _, predicted, _, (low, high) in rows]
    assert np.mean(held) >= 0.9  # 95 % intervals; they are not independent
    for what, predicted, found, (low, high) in rows:  # a share of a dozen successes is looser than one of 50 dialogs
        assert found == pytest.approx(predicted, abs=max(0.12, (high - low) / 2)), what
    tests = {(t["a"], t["b"]): t for t in run["results"]["tests"]["coherence"]}
    assert tests["A", "D"]["q"] < 0.01
    careless = run["progress"][run["careless"]]
    assert careless["n_checks_passed"] < careless["n_checks"]
    for rater in run["errors"]:
        assert run["progress"][rater]["n_checks_passed"] == run["progress"][rater]["n_checks"] > 0
    agrees = [run["results"]["raters"][r] for r in run["errors"]]
    assert agrees == sorted(agrees, reverse=True)  # the less a rater errs, the more the others agree with them
