"""Eq. 7-9 by hand, and against a plain recomputation."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pege.dialog import make_dialog
from pege.lexicon.load import Lexicon, load_lexicon
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


CHINESE = {"难过": (0.1, 0.4, 0.2), "桌子": (0.5, 0.3, 0.5), "高兴": (0.9, 0.5, 0.8), "海边": (0.7, 0.1, 0.6)}


def plain(utterances, words, oov, agg):
    """Eq. 7-9 once more, in loops over lists of words."""
    mean = [sum(column) / len(words) for column in zip(*words.values(), strict=True)]

    def vad(utterance):
        rows = [words.get(w, mean) for w in utterance if w in words or oov == "neutral"]
        return [sum(column) / len(rows) for column in zip(*rows, strict=True)] if rows else None

    def half(positions):
        return [v for k in positions if (v := vad(utterances[k])) is not None] or [mean]

    n = len(utterances)
    if n % 2:
        n += 1
    count = max(1, n // 4)
    user = [k for k in range(len(utterances)) if k % 2 == 0]
    agent = [k for k in range(len(utterances)) if k % 2 == 1]
    peg = e = 0.0
    last, first, start = half(user[-count:]), half(agent[:count]), vad(utterances[0]) or mean
    for d in range(3):
        gains = [o[d] - mean[d] for o in last]
        peg += sum(gains) / (len(gains) if agg == "mean" else 1)
        met = [o[d] for o in first]
        e -= abs(start[d] - sum(met) / (len(met) if agg == "mean" else 1))
    return peg, e, peg + e


@given(st.data(), st.sampled_from(["skip", "neutral"]), st.sampled_from(["mean", "sum"]), st.sampled_from(["en", "zh"]))
@settings(max_examples=300, deadline=None)
def test_scores_equal_a_plain_recomputation(data, oov, agg, language):
    words, unknown, space = (WORDS, ["zzz", "qq"], " ") if language == "en" else (CHINESE, ["电脑", "七"], "，")
    utterance = st.lists(st.sampled_from([*words, *unknown, *unknown]), min_size=1, max_size=4)
    utterances = data.draw(st.lists(utterance, min_size=2, max_size=13))
    lexicon = Lexicon("toy", "1", {w: k for k, w in enumerate(words)}, np.array(list(words.values())))
    dialog = make_dialog([space.join(u) for u in utterances], id="x", lang=language)
    (found,) = score_dialogs([dialog], lexicon, oov=oov, agg=agg)
    assert (found.peg, found.e, found.pege) == pytest.approx(plain(utterances, words, oov, agg), abs=1e-12)


@pytest.mark.parametrize(("n", "half"), [(2, 1), (3, 1), (6, 1), (7, 2), (8, 2), (11, 3), (20, 5)])
def test_an_odd_dialog_counts_as_one_longer_and_a_half_is_never_empty(n, half):
    dialog = make_dialog([f"u{k}" for k in range(1, n + 1)])
    assert dialog.agent_first_half == [f"u{k}" for k in range(2, 2 * half + 1, 2)]
    last = n if n % 2 else n - 1
    assert dialog.user_last_half == [f"u{k}" for k in range(last - 2 * (half - 1), last + 1, 2)]


def test_the_signature_pins_everything():
    assert (
        pege_signature(LEXICON, "en") == "pege|lex:toy-1|seg:words-en|oov:skip|agg:mean|ref:lexicon|half:paper|v:0.1.0"
    )


def test_the_signature_names_the_scale_that_a_person_gave(tmp_path):
    (tmp_path / "s.tsv").write_text("sad\t1\t2\t3\nglad\t4\t5\t3\n")
    digest = hashlib.sha256((tmp_path / "s.tsv").read_bytes()).hexdigest()[:8]
    given = load_lexicon(tmp_path / "s.tsv", value_range=(1.0, 5.0))
    assert f"|lex:s-{digest}|range:1..5|seg:" in pege_signature(given, "en")
    assert "range:" not in pege_signature(LEXICON, "en")
