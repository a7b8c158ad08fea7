"""Disguises are taken off, nothing else is made a crisis, and each character is read a bounded number of times."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pege.safety import check_phrases, judge
from pege.safety.check import _pieces, _sentences, _windows
from pege.safety.normalize import forms, plain, visible

INVISIBLE = (
    "\x00\x07\x1b\x1c\x7f\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u180b\u180e\u200b\u200c\u200d\u2060\u2061\u2800\u3164"
    "\ufe00\ufe0f\ufeff\uffa0\U000e0041\U000e0100\u0301\u0336"
)


@pytest.mark.parametrize(
    "text",
    [
        # what cannot be seen, or is a gap only
        "ki\u3164ll my\u115fse\u1160lf", "ki\uffa0ll myself", "ki\u2800ll my\u2800self", "k⠀i⠀l⠀l m⠀y s⠀e⠀l⠀f",
        "ki\x00ll my\x07self", "ki\x1cll myself", "kill" + "\u200b" * 300 + "\x7f my" + "\u3164" * 300 + "self",
        "自\u3164杀", "自\u2800杀", "自\x00杀",
        # other letters
        "ᴋɪʟʟ ᴍʏsᴇʟғ", "🅺🅸🅻🅻 🅼🆈🆂🅴🅻🅵", "🅚🅘🅛🅛 🅜🅨🅢🅔🅛🅕", "🇰🇮🇱🇱 🇲🇾🇸🇪🇱🇫", "⒦⒤⒧⒧ ⒨⒴⒮⒠⒧⒡", "кιℓℓ муѕєℓƒ", "i ωαηт тσ ∂ιє",
        "ᏦᎥᏞᏞ ᎷᎩᏕᎬᏞᎰ", "ꓗꓲꓡꓡ ꓟꓬꓢꓰꓡꓝ", "kiII myseIf", "кіӏӏ mуѕеӏf",
        # letters apart, or with something between
        "k😀i😀l😀l m😀y s😀e😀l😀f", "ki😀ll my🙃self", "(k)(i)(l)(l) myself", "i want to k.1.l.l myself", "i just wanna d i e",
        "kill/my/self", "ki ll my se lf", "sui cide", "I want to 😭 die",
        "自，杀", "自。杀", "自😀杀", "自（杀）", "自a杀", "我，想，死", "不😀想😀活", "割。腕",
        # letters left out or put in
        "k*ll myself", "k**l myself", "s*icide", "I want to d*e", "kxll myself", "k(i)ll myself",
        # words
        "kys", "#iwanttodie", "i wanna ctb", "zi4 sha1", "bu xiang huo le", "tiaolou", "我想歹匕", "不想huo了",
    ],
)  # fmt: skip
def test_a_disguise_is_taken_off(text):
    assert judge(text).score == 1


@pytest.mark.parametrize(
    "text",
    [
        "the nazis lost the war", "Uzis are guns", "it is 5 kms away", "a run of 10 kms", "catching some z's", "Zi Shan",
        "good-bye", "I love 🇺🇸", "plan A, B, C, D", "I took 30mg", "my 4-year-old", "5 p.m. or 6 a.m.", "see u l8r m8",
        "vacuum the room", "he rapped about it", "an XXL taxi", "that is sooo good!!!", "I like R&B", "www.example.com",
        "年轻，生活很好", "他很强，暴力解决不了问题", "我在想，死板的人怎么办", "那个人，自然，死板", "请自觉，杀菌后再进", "买S码", "好，的",
    ],
)  # fmt: skip
def test_what_only_looks_like_a_disguise_is_no_phrase(text):
    assert check_phrases(text) is None


CRISES = (
    "I want to kill myself",
    "i dont want to live anymore",
    "we talked about suicide",
    "我不想活了",
    "我想自杀",
    "他经常打我",
)


@given(st.sampled_from(CRISES), st.lists(st.tuples(st.integers(0, 30), st.sampled_from(INVISIBLE)), max_size=12))
def test_no_invisible_character_hides_a_crisis(text, inserted):
    for place, character in inserted:
        text = text[:place] + character + text[place:]
    assert check_phrases(text)


@given(st.text(st.characters() | st.sampled_from(INVISIBLE + "aIıкж₭ﷺ㍿👍🇰自殺 \n'’"), max_size=80))
def test_a_plain_text_stays_as_it_is(text):
    assert plain(plain(text)) == plain(text)
    assert visible(visible(text)) == visible(text)
    assert forms(visible(text)) == forms(text)


def test_letters_keep_their_words_where_a_gap_shows_them():
    assert forms("k i l l  m e")[-1] == "kill me"
    assert forms("k.i.l.l m.e")[-1] == "kill me"
    assert forms("k\ni\nl\nl\nm\ne")[-1] == "killme"


def test_a_word_is_read_as_the_one_that_is_meant():
    read = {word: forms(word)[-1] for word in ("ki11", "su1c1de", "d*ed", "he1p", "sooo", "30mg", "a11", "h@te")}
    assert read == {
        "ki11": "kill", "su1c1de": "suicide", "d*ed": "died", "he1p": "help", "sooo": "so", "30mg": "30mg", "a11": "all",
        "h@te": "hate",
    }  # fmt: skip


@pytest.mark.parametrize(
    "broken", ["kill\nmy\nself", "k\ni\nl\nl\nm\ny\ns\ne\nl\nf", "I want\nto\ndie", "我\n想\n自\n杀"]
)
@pytest.mark.parametrize("other", ["it was a sunny day at the sea\n", "今天去海边玩了\n", "We ate. "])
def test_a_phrase_over_the_lines_of_a_long_text_is_seen(broken, other):
    assert judge(f"{other * 30}\n{broken}\n{other * 30}").score == 1


def test_an_idiom_of_one_line_does_not_hide_the_next():
    assert check_phrases("看完了新闻\n我活不下去了")
    assert check_phrases("in the movie he dies\nI think about suicide")


ODD = ["a", "1", "!", "'", " ", ".", "a.", "a1", "a ", "'a", "$", "x", "自", "自.", "自 ", "杀", "ı", "k.", "aaa ", "😀", "a😀", "kill ",
       "n't", "ﷺ", "㍿", "⠀", "\n", "a\n", "*", "a*", "|", "_", "ж", "₭", "aж ", "🇰", "。", "a!"]  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
def test_a_long_text_is_read_a_few_times_in_short_pieces(odd):
    text = (odd * 20_000)[:20_000] + "a"
    n = len(visible(text))
    windows, pieces = list(_windows(_sentences(text))), list(_pieces(_sentences(text)))
    assert sum(map(len, windows)) <= 2 * n
    assert sum(map(len, pieces)) <= 4 * n + 500  # two forms of each two sentences
    assert max(map(len, windows + pieces)) < 1_000
    assert n <= 4 * len(text)


def test_no_character_of_a_long_text_is_left_out():
    rng = random.Random(0)
    text = "".join(rng.choice("ab .!?\n。自杀") for _ in range(3_000))
    at = 0
    for window in _windows(_sentences(text)):
        found = visible(text).find(window, max(0, at - 700))
        assert 0 <= found <= at
        at = found + len(window)
    assert at == len(visible(text))


@pytest.mark.parametrize(
    "odd", [*ODD, "$" * 9 + "a", "dont to of ", "in the movie ", "really ", "论文", "老板会", "a自b@"]
)
def test_time_grows_as_the_text(odd):
    def seconds(n_chars):
        text = (odd * n_chars)[:n_chars]
        start = time.process_time()
        forms(text)
        return time.process_time() - start

    seconds(100)
    short, long = seconds(20_000), seconds(160_000)  # a square would be 64 times as long
    assert long <= 24 * max(short, 0.01)
