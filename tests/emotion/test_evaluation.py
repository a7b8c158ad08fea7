"""Numbers about classifiers, worked by hand or by scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from pege.emotion import load_classifier, read_labelled
from pege.emotion.evaluation import cohen_kappa, compare, precision_above
from pege.errors import InputError


def test_precision_above_a_threshold_by_hand():
    p = np.array([[0.95, 0.05], [0.3, 0.7], [0.08, 0.92], [0.55, 0.45]])
    classes = np.array([0, 1, 0, 1])
    assert precision_above(p, classes, 0.9) == (0.5, 0.5)
    assert precision_above(p, classes, 0.6) == (pytest.approx(2 / 3), 0.75)
    assert precision_above(p, classes, 0.99) == (1.0, 0.0)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=40))
@settings(max_examples=60, deadline=None)
def test_kappa_is_scikit_learns(pairs):
    first, second = np.array(pairs).T
    if len(set(first.tolist()) | set(second.tolist())) > 1:
        assert cohen_kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))


def test_two_that_always_say_the_same_agree():
    assert cohen_kappa(np.array([1, 1]), np.array([1, 1])) == 1.0


def test_a_classifier_agrees_with_itself_and_its_time_is_told(plain_texts):
    shipped = load_classifier()
    rows = compare([shipped, shipped], plain_texts[1])
    assert [r["agreement"] for r in rows] == [1.0, 1.0]
    assert [r["kappa"] for r in rows] == [1.0, 1.0]
    assert rows[0]["texts_per_s"] > 0
    assert rows[0]["confusion"] == rows[1]["confusion"]


def test_text_with_other_labels_is_no_measure(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text("label\ttext\nclean\thi\noffensive\tgo\n")
    with pytest.raises(InputError, match="tells negative, neutral, positive; the texts have clean, offensive"):
        compare([load_classifier()], read_labelled(path, labels=("clean", "offensive")))
