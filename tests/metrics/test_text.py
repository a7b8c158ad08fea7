"""Distinct by hand, BLEU as sacreBLEU gives it."""

from __future__ import annotations

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU

from pege.dialog import make_dialog
from pege.errors import InputError
from pege.metrics import bleu, distinct
from pege.metrics.text import bleu_columns, bleu_table, distinct_columns, distinct_table


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
    table = bleu_table(said, meant, language="en", n_resamples=9)
    assert table["bleu_1"] == pytest.approx(100 * 7 / 8)
    assert table["n_responses"] == 2


@pytest.mark.parametrize(
    ("meant", "message"),
    [
        ([("2", ["hi", "a"])], "1: has no reference"),
        ([("1", ["hi", "a", "b", "c"])], "1: has 1 responses, its reference 2"),
        ([("1", ["hi", "a"]), ("1", ["hi", "b"])], "1: is the id of several dialogs"),
    ],
)
def test_references_that_do_not_fit_are_named(meant, message):
    with pytest.raises(InputError, match=message):
        bleu_table([make_dialog(["hi", "a"], id="1")], [make_dialog(t, id=i) for i, t in meant], language="en")


def made_up(rng, n_dialogs, n_words=400):
    """Dialogs of Zipf's words, each with a few of its own, and references that share half of them."""
    p = 1 / np.arange(1, n_words + 1)
    said, meant = [], []
    for k in range(n_dialogs):
        words = rng.choice(n_words, p=p / p.sum(), size=rng.integers(15, 60)) + rng.choice([0, 0, 1000], 1) * k
        other = np.where(rng.random(len(words)) < 0.5, words, -1)
        said.append(make_dialog(["hi", " ".join(f"w{w}" for w in words)], id=str(k)))
        meant.append(make_dialog(["hi", " ".join(f"w{abs(w)}" for w in other)], id=str(k)))
    return said, meant


def test_the_interval_of_bleu_is_that_of_sacrebleus_own_bootstrap():
    said, meant = made_up(np.random.default_rng(0), 80)
    table = bleu_table(said, meant, language="en", n_resamples=2000)
    for n in (1, 2):
        responses, references = ([d.texts[1] for d in side] for side in (said, meant))
        theirs = BLEU(max_ngram_order=n).corpus_score(responses, [references], n_bootstrap=2000)
        low, high = table["ci"][f"bleu_{n}"]
        assert (low + high) / 2 == pytest.approx(theirs._mean, abs=0.3)
        assert (high - low) / 2 == pytest.approx(theirs._ci, rel=0.1)


def test_bleu_and_distinct_of_a_dialog_are_those_of_a_corpus_of_it_alone():
    said, meant = made_up(np.random.default_rng(1), 4)
    own = bleu_columns(said, meant, language="en")
    different = distinct_columns(said, language="en")
    for k, (a, b) in enumerate(zip(said, meant, strict=True)):
        expected = BLEU(max_ngram_order=2).corpus_score([a.texts[1]], [[b.texts[1]]]).score
        assert own["bleu_2"][k] == pytest.approx(expected)
        words = a.texts[1].split()
        assert different["distinct_1"][k] == pytest.approx(len(set(words)) / len(words))


def test_the_table_of_distinct_agrees_with_the_plain_count():
    said, _ = made_up(np.random.default_rng(2), 30)
    table = distinct_table(said, language="en", n_resamples=99)
    for n in (1, 2):
        score = distinct(said, n, language="en")
        assert table[f"distinct_{n}"] == score
        low, high = table["ci"][f"distinct_{n}"]
        assert low < score < high


def test_the_interval_of_distinct_holds_the_expected_score_as_often_as_it_says():
    rng = np.random.default_rng(3)
    scores, intervals = [], []
    for _ in range(100):
        table = distinct_table(made_up(rng, 30)[0], language="en", n_resamples=199)
        scores.append(table["distinct_1"])
        intervals.append(table["ci"]["distinct_1"])
    held = np.mean([low <= np.mean(scores) <= high for low, high in intervals])
    assert held >= 0.9  # a plain bootstrap: 0.03
