"""Distinct by hand, BLEU as sacreBLEU gives it."""

from __future__ import annotations

import pytest

from pege.dialog import make_dialog
from pege.errors import InputError
from pege.metrics import bleu, distinct
from pege.metrics.text import bleu_table


def test_distinct_counts_different_n_grams_of_the_agent_alone():
    dialogs = [make_dialog(["x y z", "a b a b", "w", "a b"])]
    assert distinct(dialogs, 1) == pytest.approx(2 / 6)
    assert distinct(dialogs, 2) == pytest.approx(2 / 4)  # ab, ba of ab ba ab ab
    assert distinct([make_dialog(["x"])], 1) == 0


def test_bleu_1_is_the_share_of_words_met():
    found = bleu(["the cat sat here"], ["the cat sat there"], 1, language="en")
    assert found.score == pytest.approx(75.0)
    assert "nrefs:1" in found.signature


def test_a_missing_reference_is_named():
    with pytest.raises(InputError, match="2 responses and 1 references"):
        bleu(["a", "b"], ["a"], 1, language="en")


def test_responses_are_compared_with_those_of_the_same_dialog():
    said = [make_dialog(["hi", "the cat sat here"], id="1"), make_dialog(["ho", "a b c d"], id="2")]
    meant = [make_dialog(["ho", "a b c d"], id="2"), make_dialog(["hi", "the cat sat there"], id="1")]
    table = bleu_table(said, meant, language="en")
    assert table["bleu_1"] == pytest.approx(100 * 7 / 8)
    assert table["n_responses"] == 2
    with pytest.raises(InputError, match="no reference"):
        bleu_table(said, meant[:1], language="en")
