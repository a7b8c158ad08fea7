"""Words of whole columns are jieba's own, to the last tie."""

from __future__ import annotations

import random

import jieba
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pege.chinese import cut_texts
from pege.selfchat import load_starters
from pege.words import chinese_words, words_of_texts


@pytest.fixture(scope="module")
def plain():
    return jieba.Tokenizer().lcut


def pieces_of(texts):
    codes, starts, stops, owners = cut_texts(texts)
    joined = "".join(map(chr, codes.tolist()))
    found = [[] for _ in texts]
    for a, b, k in zip(starts.tolist(), stops.tolist(), owners.tolist(), strict=True):
        found[k].append(joined[a:b])
    return found


SOME = "今天气很好我们去海边玩吧难过的是狗丢了龘龥㐀 aB3.%-+#&_，。é３カ\r\n\U00020000"


@given(st.lists(st.text(alphabet=st.sampled_from(SOME), max_size=16) | st.text(max_size=6), max_size=6))
@example(["今天", "天气"])  # a word of both together
@example(["", "3.5%好a.b1.2.3", "龘龘"])
def test_a_column_is_cut_as_each_text_by_itself(plain, texts):
    # white space that is several characters to jieba ("\r\n") is no word, and stands here character by character
    expected = [[w for w in plain(t) if w.strip()] for t in texts]
    assert [[w for w in row if w.strip()] for row in pieces_of(texts)] == expected


def test_words_of_the_dictionary_and_any_characters_between_them_are_cut_as_jieba_does(plain):
    rng = random.Random(0)
    with jieba.Tokenizer().get_dict_file() as file:
        words = [line.split(" ")[0] for line in file.read().decode().split("\n") if line]
    said = [d.texts[0] for d in load_starters("zh")]

    def piece():
        kind = rng.randrange(3)
        if kind == 0:
            return rng.choice(words)
        if kind == 1:
            return rng.choice(said)
        return "".join(chr(rng.randrange(0x4E00, 0x9FD6)) for _ in range(rng.randint(1, 5)))

    texts = ["".join(piece() for _ in range(rng.randint(1, 6))) for _ in range(1500)]
    assert pieces_of(texts) == [plain(t) for t in texts]


def test_many_texts_give_the_words_that_each_gives():
    said = [d.texts[0] for d in load_starters("zh")]
    texts = [*said, "OK！我3.5%的İé 好。", "", "……", "\U00020000好", *said * 20]
    words, n_words = words_of_texts(texts, "zh")
    expected = [chinese_words(t) for t in texts]
    assert words.to_pylist() == [w for row in expected for w in row]
    assert np.array_equal(n_words, [len(row) for row in expected])
