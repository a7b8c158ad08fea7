"""Words of English and Chinese text."""

from __future__ import annotations

import jieba
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pege.errors import InputError
from pege.words import chinese_words, english_words, guess_language, segmenter


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I can't -- it's 2 late!", ["i", "can't", "it's", "2", "late"]),
        ("You’re 'quoted' rock'n'roll", ["you're", "quoted", "rock'n'roll"]),
        ("snake_case e-mail", ["snake", "case", "e", "mail"]),
        ("Café ÜBER", ["café", "über"]),
        ("...", []),
    ],
)
def test_english_words_are_runs_of_letters_and_digits_with_inner_apostrophes(text, words):
    assert english_words(text) == words


@given(st.text(max_size=80))
def test_english_words_are_lower_case_and_stable_when_joined(text):
    words = english_words(text)
    assert all(w == w.lower() and w for w in words)
    assert english_words(" ".join(words)) == words


def test_chinese_words_are_those_of_jieba_without_punctuation():
    text = "今天天气很好，我们去海边玩吧！"
    assert chinese_words(text) == [w for w in jieba.lcut(text) if w not in "，！"]


def test_a_language_without_a_segmenter_is_named():
    with pytest.raises(InputError, match="'fr'"):
        segmenter("fr")


@pytest.mark.parametrize(("text", "lang"), [("", "en"), ("ok 好", "zh"), ("hello hello hello hello 好", "en")])
def test_the_language_is_guessed_by_the_share_of_han_characters(text, lang):
    assert guess_language(text) == lang
