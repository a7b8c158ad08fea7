"""Words of English and Chinese text."""

from __future__ import annotations

import hashlib
import importlib.metadata
import marshal
import os
import subprocess
import sys
from pathlib import Path

import jieba
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pege.errors import InputError
from pege.words import (
    chinese_words,
    english_words,
    guess_language,
    segmenter,
    segmenter_name,
    words_of_texts,
)


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


def test_the_name_of_the_chinese_segmenter_pins_what_is_installed():
    content = (Path(jieba.__file__).parent / "dict.txt").read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:8]
    assert segmenter_name("zh") == f"jieba-{importlib.metadata.version('jieba')}-{digest}"


def test_words_added_to_jieba_by_others_and_a_foreign_cache_change_nothing(tmp_path):
    (tmp_path / "jieba.cache").write_bytes(marshal.dumps(({"今": 1, "今天": 0}, 1)))
    code = (
        "import jieba; jieba.dt.initialized = True; jieba.add_word('天气很好', 10**9);"
        "from pege.words import chinese_words; assert chinese_words('今天天气很好') == ['今天天气', '很', '好']"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=environment, check=True)


def test_a_language_without_a_segmenter_is_named():
    with pytest.raises(InputError, match="'fr'"):
        segmenter("fr")


@pytest.mark.parametrize(("text", "lang"), [("", "en"), ("ok 好", "zh"), ("hello hello hello hello 好", "en")])
def test_the_language_is_guessed_by_the_share_of_han_characters(text, lang):
    assert guess_language(text) == lang


@given(
    st.lists(st.text(alphabet=st.sampled_from("aB9 '’.-_\t\néß中İ"), max_size=12) | st.text(max_size=20), max_size=8)
)
def test_words_of_many_texts_are_those_of_each(texts):
    for lang, cut in (("en", english_words), ("zh", chinese_words)):
        words, n_words = words_of_texts(texts, lang)
        rows = [cut(t) for t in texts]
        assert words.to_pylist() == [w for row in rows for w in row]
        assert n_words.tolist() == [len(row) for row in rows]
