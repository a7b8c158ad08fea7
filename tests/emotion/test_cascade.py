"""The cascade: who is asked about which text, the threshold, and its folder."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pege.emotion import TextClassifier, load_classifier
from pege.emotion.cascade import Cascade, CascadeConfig, choose_floor, choose_threshold, is_unsure, train_cascade
from pege.emotion.labelled import LabelledTexts
from pege.errors import InputError


class Fixed(TextClassifier):
    """Gives the probabilities of a table, and remembers what it was asked."""

    def __init__(self, name, table, labels=("clean", "offensive")):
        self._name, self.table, self._labels, self.asked = name, table, labels, []

    @property
    def name(self):
        return self._name

    @property
    def labels(self):
        return self._labels

    def predict(self, texts, *, batch_size=256):
        self.asked += texts
        return np.array([self.table[t] for t in texts])

    def save(self, folder):
        raise NotImplementedError


def test_only_what_the_fast_one_is_unsure_of_goes_to_the_encoder():
    fast = Fixed("fast", {"a": [0.95, 0.05], "b": [0.6, 0.4], "c": [0.2, 0.8]})
    encoder = Fixed("encoder", {"b": [0.1, 0.9]})
    found = Cascade(fast, encoder, CascadeConfig(name="both", threshold=0.8)).predict(["a", "b", "c"])
    assert found.tolist() == [[0.95, 0.05], [0.1, 0.9], [0.2, 0.8]]
    assert encoder.asked == ["b"]


def test_the_threshold_is_the_smallest_that_loses_nothing():
    # The fast one is wrong on the two texts it gives 0.55 and 0.62; asked about both, the encoder is right everywhere.
    fast = np.array([[0.9, 0.1], [0.45, 0.55], [0.62, 0.38], [0.1, 0.9]])
    encoder = np.array([[0.99, 0.01], [0.95, 0.05], [0.02, 0.98], [0.03, 0.97]])
    assert choose_threshold(fast, encoder, np.array([0, 0, 1, 1]), tolerance=0) == 0.63


def test_a_fast_one_that_is_as_good_is_never_unsure():
    p = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert choose_threshold(p, p, np.array([0, 1])) == 0


def test_of_a_class_that_matters_only_the_likely_texts_go_to_the_encoder():
    fast = Fixed("fast", {"a": [0.95, 0.05], "b": [0.6, 0.4], "c": [0.05, 0.95]})
    encoder = Fixed("encoder", {"b": [0.1, 0.9], "c": [0.7, 0.3]})
    config = CascadeConfig(name="both", threshold=0.3, label="offensive")
    assert Cascade(fast, encoder, config).predict(["a", "b", "c"]).tolist() == [[0.95, 0.05], [0.1, 0.9], [0.7, 0.3]]
    assert encoder.asked == ["b", "c"]


def test_the_floor_is_the_largest_that_hides_no_more_than_it_may():
    fast = np.array([0.05, 0.4, 0.62, 0.8, 0.97])
    encoder = np.array([0.2, 0.95, 0.93, 0.99, 0.3])  # takes the three in the middle
    assert choose_floor(fast, encoder, tolerance=0) == 0.4
    assert choose_floor(fast, encoder, tolerance=0.34) == 0.62
    assert choose_floor(fast, np.zeros(5)) == 0


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30))
@settings(max_examples=50)
def test_what_a_cascade_for_a_class_takes_the_encoder_takes(pairs):
    fast, encoder = np.array(pairs).T
    mixed = np.where(fast >= choose_floor(fast, encoder, tolerance=0.1), encoder, fast)
    assert not ((mixed > 0.9) & ~(encoder > 0.9)).any()
    assert (mixed > 0.9).sum() >= 0.9 * (encoder > 0.9).sum() - 1e-9


def test_a_class_that_nobody_knows_is_refused():
    with pytest.raises(InputError, match="no class 'happy'"):
        Cascade(Fixed("a", {}), Fixed("b", {}), CascadeConfig(name="x", threshold=0.5, label="happy"))


@given(st.lists(st.floats(0.5, 1), min_size=1, max_size=20), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=50)
def test_a_higher_threshold_is_unsure_of_no_fewer_texts(sure, a, b):
    p = np.array([[s, 1 - s] for s in sure])
    low, high = sorted((a, b))
    assert not (is_unsure(p, low) & ~is_unsure(p, high)).any()


def test_classifiers_of_different_classes_make_no_cascade():
    other = Fixed("other", {}, labels=("good", "bad"))
    with pytest.raises(InputError, match="of the same classes"):
        Cascade(Fixed("fast", {}), other, CascadeConfig(name="x", threshold=0.5))
    with pytest.raises(InputError, match="other labels"):
        train_cascade(Fixed("a", {}), Fixed("b", {}), LabelledTexts(["x"], np.array([[1.0, 0, 0]])))


def test_it_is_saved_with_both_and_loaded_by_the_one_loader(tmp_path):
    shipped = load_classifier()
    Cascade(shipped, shipped, CascadeConfig(name="twice", threshold=0.7)).save(tmp_path / "cascade")
    loaded = load_classifier(tmp_path / "cascade")
    texts = ["I am so sad.", "Thank you, I feel better!"]
    assert loaded.name == "twice"
    assert loaded.predict(texts) == pytest.approx(shipped.predict(texts))
    assert loaded.emotions(texts)[0].negative == pytest.approx(shipped.predict(texts)[0, 0])
    (tmp_path / "cascade" / "encoder" / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"encoder: no model\.safetensors here"):
        load_classifier(tmp_path / "cascade")
