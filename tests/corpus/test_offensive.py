"""Offensive language: the word list, what it leaves alone, and the shipped classifier."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pege.corpus.offensive as offensive
from pege.corpus.offensive import LABELS, OFFENSIVE_THRESHOLD, load_offensive_classifier, offensive_words
from pege.emotion import read_labelled
from pege.emotion.evaluation import evaluate

SHIPPED = Path(offensive.__file__).parents[1] / "assets" / "offensive"


def found(*texts):
    return offensive_words(pa.array(texts, type=pa.string())).to_pylist()


@pytest.mark.parametrize(
    "text",
    ["What the FUCK", "fucking hell", "f*ck off", "you sh1t", "biiitch!", "a$$hole", "(bastard)", "Go to  hell.",
     "you’re an idiot", "youre an idiot", "you are such an idiot", "you're a freak", "just kill yourself", "你真是个傻逼", "滚蛋！", "you fuck滚"],
)  # fmt: skip
def test_offences_are_found_in_any_case_disguise_or_length(text):
    assert found(text, f"Well, {text} he said") == [True, True]


@pytest.mark.parametrize(
    "text",
    ["Scunthorpe has a nice park", "I shitake no mushrooms", "call 455 5417", "the class passed", "cocktail party", "he is a Dickens fan",
     "fire retardant paint", "sparrows and tits", "I feel like an idiot", "hello there", "Did you freak out?", "why do you want to kill yourself?", "他妈妈的手很巧", "我觉得自己是个废物", "傻孩子", ""],
)  # fmt: skip
def test_harmless_words_are_left_alone(text):
    assert found(text) == [False]


def test_null_stays_null_and_the_order_is_kept():
    assert found("hi", None, "bitch", "hi") == [False, None, True, False]


@given(st.text(max_size=30), st.text(max_size=30))
@settings(max_examples=80, deadline=None)
def test_what_stands_around_an_offence_does_not_hide_it(before, after):
    assert found(f"{before} bastard {after}") == [True]


@given(st.text(max_size=60))
@settings(max_examples=80, deadline=None)
def test_case_makes_no_difference(text):
    ascii_only = text.encode("ascii", "ignore").decode()
    assert found(ascii_only.upper()) == found(ascii_only.lower())


@pytest.fixture(scope="module")
def classifier():
    return load_offensive_classifier()


def test_the_shipped_classifier_is_small_and_has_two_columns(classifier):
    assert classifier.labels == LABELS
    assert classifier.name == "pege-offensive-2"
    assert classifier.predict(["hi", "", "你好"]).shape == (3, 2)
    assert sum(p.stat().st_size for p in SHIPPED.glob("model.*")) <= 4_000_000


@pytest.mark.parametrize(("lang", "least"), [("en", 0.62), ("zh", 0.66)])
def test_plain_offences_and_plain_talk_are_told_apart(classifier, lang, least):
    measured = evaluate(classifier, read_labelled(SHIPPED / f"labelled.{lang}.tsv", labels=LABELS))
    assert measured["macro_f1"] > least


def test_hardly_any_everyday_utterance_is_dropped(classifier):
    texts = read_labelled(SHIPPED.parent / "emotion" / "labelled.en.tsv").texts
    assert np.mean(classifier.predict(texts)[:, 1] > OFFENSIVE_THRESHOLD) < 0.03
