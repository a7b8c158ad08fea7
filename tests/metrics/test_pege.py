"""Eq. 7-9 by hand, and against a plain recomputation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pege.dialog import make_dialog
from pege.lexicon.load import Lexicon
from pege.metrics import pege_signature, score_dialogs

WORDS = {"sad": (0.1, 0.4, 0.2), "ok": (0.5, 0.3, 0.5), "glad": (0.9, 0.5, 0.8), "calm": (0.7, 0.1, 0.6)}
LEXICON = Lexicon("toy", "1", {w: k for k, w in enumerate(WORDS)}, np.array(list(WORDS.values())))
MEAN = (0.55, 0.325, 0.525)


def score(texts, **options):
    (found,) = score_dialogs([make_dialog(texts, id="x")], LEXICON, **options)
    return found


def test_two_utterances_by_hand():
    found = score(["sad zzz", "calm ok"])
    # PEG: sad - mean; E: -|sad - (calm + ok) / 2|
    assert found.peg == pytest.approx((0.1 - 0.55) + (0.4 - 0.325) + (0.2 - 0.525))
    assert found.e == pytest.approx(-(abs(0.1 - 0.6) + abs(0.4 - 0.2) + abs(0.2 - 0.55)))
    assert found.pege == pytest.approx(found.peg + found.e)


def test_eight_utterances_take_the_last_two_of_the_user_and_the_first_two_of_the_agent():
    found = score(["ok", "sad", "ok", "calm", "glad", "glad", "glad sad", "glad"])
    glad_sad = [(a + b) / 2 for a, b in zip(WORDS["glad"], WORDS["sad"], strict=True)]
    peg = sum((a + b) / 2 - m for a, b, m in zip(WORDS["glad"], glad_sad, MEAN, strict=True))
    e = -sum(abs(o - (s + c) / 2) for o, s, c in zip(WORDS["ok"], WORDS["sad"], WORDS["calm"], strict=True))
    assert found.peg == pytest.approx(peg)
    assert found.e == pytest.approx(e)


def test_an_utterance_without_a_covered_word_is_left_out_and_alone_gives_the_reference():
    assert score(["ok", "glad", "ok", "zzz", "glad", "ok", "zzz", "ok"]).peg == pytest.approx(
        sum(g - m for g, m in zip(WORDS["glad"], MEAN, strict=True))
    )
    assert score(["zzz", "zzz"]).pege == pytest.approx(0)


def test_words_the_lexicon_lacks_may_count_as_neutral():
    found = score(["sad zzz", "ok"], oov="neutral")
    assert found.peg == pytest.approx(sum((s - m) / 2 for s, m in zip(WORDS["sad"], MEAN, strict=True)))


def test_sums_may_stand_for_means():
    texts = ["ok", "ok", "ok", "ok", "glad", "ok", "glad", "ok"]
    assert score(texts, agg="sum").peg == pytest.approx(2 * score(texts).peg)


def test_a_dialog_without_a_response_is_left_out():
    assert score_dialogs([make_dialog(["sad"])], LEXICON) == []


def test_a_dialog_of_ten_thousand_utterances_is_scored():
    assert score(["sad", "glad"] * 5000).peg < 0


def plain(texts, oov):
    """The equations once more, without arrays."""

    def vad(text):
        values = [WORDS.get(w, MEAN if oov == "neutral" else None) for w in text.split()]
        values = [v for v in values if v]
        return [sum(c) / len(values) for c in zip(*values, strict=True)] if values else None

    def mean(group):
        known = [v for v in map(vad, group) if v]
        return [sum(c) / len(known) for c in zip(*known, strict=True)] if known else list(MEAN)

    n = len(texts) + len(texts) % 2
    half = max(1, n // 4)
    user = [t for k, t in enumerate(texts) if k % 2 == 0][-half:]
    agent = [t for k, t in enumerate(texts) if k % 2 == 1][:half]
    peg = sum(a - b for a, b in zip(mean(user), MEAN, strict=True))
    return peg, -sum(abs(a - b) for a, b in zip(mean(texts[:1]), mean(agent), strict=True))


@given(
    st.lists(
        st.lists(st.sampled_from([*WORDS, "zzz", "qq"]), min_size=1, max_size=5).map(" ".join), min_size=2, max_size=13
    ),
    st.sampled_from(["skip", "neutral"]),
)
@settings(max_examples=200, deadline=None)
def test_scores_equal_a_plain_recomputation(texts, oov):
    found = score(texts, oov=oov)
    assert (found.peg, found.e) == pytest.approx(plain(texts, oov), abs=1e-12)


def test_the_signature_pins_everything():
    assert (
        pege_signature(LEXICON, "en") == "pege|lex:toy-1|seg:words-en|oov:skip|agg:mean|ref:lexicon|half:paper|v:0.1.0"
    )
