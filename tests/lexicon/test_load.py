"""Lexicon files: read, checked, rescaled."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from pege.errors import InputError
from pege.lexicon import compare_lexicons, load_lexicon, mean_vad, positive_anchor, text_coverage


def write(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("row", "value_range", "expected"),
    [
        ("good\t0.9\t0.5\t0.4\nbad\t0.1\t0.5\t0.6", None, [0.9, 0.5, 0.4]),
        ("good\t0.8\t0\t-0.2\nbad\t-0.8\t0\t0.2", None, [0.9, 0.5, 0.4]),
        ("good\t8.2\t5\t4.2\nbad\t1.8\t5\t5.8", None, [0.9, 0.5, 0.4]),
        ("good\t4.6\t3\t2.6\nbad\t1.4\t3\t3.4", (1.0, 5.0), [0.9, 0.5, 0.4]),
    ],
)
def test_every_scale_is_brought_to_0_1(tmp_path, row, value_range, expected):
    lexicon = load_lexicon(write(tmp_path / "l.tsv", row), value_range=value_range)
    assert lexicon.vad("good") == pytest.approx(expected)
    assert lexicon.mean == pytest.approx([0.5, 0.5, 0.5])
    assert lexicon.dimensions == "vad"


def test_a_source_without_dominance_adds_nothing_in_that_dimension(tmp_path):
    lexicon = load_lexicon(write(tmp_path / "l.tsv", "word\tvalence\tarousal\ngood\t0.9\t0.5\nbad\t0.1\t0.3\n"))
    assert lexicon.dimensions == "va"
    assert (lexicon.values[:, 2] == lexicon.mean[2]).all()


def test_columns_are_found_by_name_and_more_may_follow(tmp_path):
    text = "mark\tword\tarousal\tvalence\tdominance\nrated\tGood\t0.5\t0.9\t0.4\n"
    lexicon = load_lexicon(write(tmp_path / "l.tsv", text))
    assert lexicon.vad("good") == pytest.approx([0.9, 0.5, 0.4])
    assert lexicon.marks is not None


def test_the_word_may_be_called_term_as_in_nrc_vad(tmp_path):
    lexicon = load_lexicon(write(tmp_path / "l.tsv", "term\tvalence\tarousal\tdominance\ngood\t0.9\t0.5\t0.4\n"))
    assert lexicon.vad("good") == pytest.approx([0.9, 0.5, 0.4])


def test_words_that_differ_in_case_alone_are_averaged(tmp_path):
    lexicon = load_lexicon(write(tmp_path / "l.tsv", "May\t0.8\t0.5\t0.4\nmay\t0.4\t0.5\t0.4\nx\t0\t1\t0"))
    assert lexicon.vad("may") == pytest.approx([0.6, 0.5, 0.4])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1: has 0"),
        ("word\tvalence\tarousal\tdominance\n", "holds no words"),
        ("word\tvalence\tdominance\ngood\t1\t1\n", "lacks the column arousal"),
        ("lemma\tvalence\tarousal\ngood\t1\t1\n", "lacks the column word"),
        ("valence\tarousal\tdominance\n0.9\t1\t1\n", "lacks the column word"),
        ("good\t0.9\n", "2 tab-separated columns"),
        ("good\t0.9\t0.5\t0.4\nbad\tnan\t0.5\t0.4\n", "2: the valence of 'bad' is 'nan'"),
        ("good\t0.9\t0.5\t0.4\nbad\t0.5\t0.4\n", "2: has 3 columns"),
        ("good\t0.9\t0.5\t0.4\nbad\tx\t0.5\t0.4\n", "is 'x'"),
        ("good\t4\t2\t3\nbad\t1.5\t2\t3\n", "1..5 or of 1..9"),
        ("good\t90\t2\t3\n", "on no scale known"),
    ],
)
def test_a_bad_file_is_named(tmp_path, text, message):
    path = write(tmp_path / "l.tsv", text)
    with pytest.raises(InputError) as e:
        load_lexicon(path)
    assert message in str(e.value)
    assert str(path) in str(e.value)


def test_a_cut_archive_and_a_missing_file_are_named(tmp_path):
    path = tmp_path / "l.tsv.gz"
    whole = gzip.compress(b"good\t0.9\t0.5\t0.4\n" * 50)
    for broken in (whole[:-10], whole[:12] + b"\xff" * 8 + whole[20:], b"good\t0.9\t0.5\t0.4\n"):
        path.write_bytes(broken)
        with pytest.raises(InputError, match="cut or broken"):
            load_lexicon(path)
    with pytest.raises(InputError, match="did you mean 'pege-en'"):
        load_lexicon("pege-em")


@pytest.mark.parametrize("bounds", [("nan", 1), (0, "nan"), ("-inf", 1), (0, "inf"), (1, 1), (5, 1)])
def test_a_range_that_is_no_scale_is_refused(tmp_path, bounds):
    low, high = (float(x) for x in bounds)
    with pytest.raises(InputError, match="is no scale"):
        load_lexicon(write(tmp_path / "l.tsv", "good\t0.9\t0.5\t0.4\n"), value_range=(low, high))


def test_a_value_off_the_named_scale_is_named(tmp_path):
    with pytest.raises(InputError, match="'good' lies outside"):
        load_lexicon(write(tmp_path / "l.tsv", "good\t6\t2\t3\n"), value_range=(1.0, 5.0))


def test_the_mean_of_words_leaves_out_what_the_lexicon_lacks(lexicon_file):
    lexicon = load_lexicon(lexicon_file)
    assert mean_vad(["sad", "dog", "zzz"], lexicon) == pytest.approx([0.45, 0.45, 0.35])
    assert mean_vad(["zzz"], lexicon) is None


def test_the_anchor_is_positive_with_neutral_arousal(lexicon_file):
    lexicon = load_lexicon(lexicon_file)
    anchor = positive_anchor(lexicon)
    assert anchor[0] == pytest.approx(0.9)
    assert anchor[1] == pytest.approx(lexicon.mean[1])


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_our_lexicon_is_whole(lang):
    lexicon = load_lexicon(f"pege-{lang}")
    assert len(lexicon) >= 20_000
    assert np.isfinite(lexicon.values).all()
    assert set(lexicon.marks.tolist()) == {"rated", "inferred"}
    good, bad = {"en": ("happy", "murder"), "zh": ("快乐", "谋杀")}[lang]
    assert lexicon.vad(good)[0] > 0.8 > 0.2 > lexicon.vad(bad)[0]


def test_both_languages_together_hold_all_words():
    both, en, zh = (load_lexicon(n) for n in ("pege", "pege-en", "pege-zh"))
    assert set(both.words) == set(en.words) | set(zh.words)
    assert both.vad("happy") == pytest.approx(en.vad("happy"))


def test_lexicons_are_compared_on_the_words_they_share(tmp_path):
    a = load_lexicon(write(tmp_path / "a.tsv", "a\t0\t0\t0\nb\t.5\t1\t.5\nc\t1\t0\t1\nx\t1\t1\t1"))
    b = load_lexicon(write(tmp_path / "b.tsv", "a\t0\t1\t0\nb\t.5\t0\t.5\nc\t1\t1\t1\ny\t1\t1\t1"))
    found = compare_lexicons(a, b)["all"]
    assert found["n_words"] == 3
    assert found["valence"] == pytest.approx(1)
    assert found["arousal"] == pytest.approx(-1)


def test_below_three_shared_words_there_is_no_correlation(tmp_path):
    a = load_lexicon(write(tmp_path / "a.tsv", "a\t0\t0\t0\nb\t.5\t1\t.5\n"))
    assert compare_lexicons(a, a)["all"] == {"n_words": 2, "valence": None, "arousal": None, "dominance": None}


def test_coverage_of_text_counts_words(lexicon_file):
    assert text_coverage(["sad dog", "big cat"], load_lexicon(lexicon_file), "en") == {"n_words": 4, "covered": 0.5}
