"""Contact data is found wherever it stands, and plain chat is left alone."""

from __future__ import annotations

import random
import string

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pege.corpus.personal import CONTACT_RULES, has_email, has_handle, has_id_number, has_phone

phonenumbers = pytest.importorskip("phonenumbers")

#: what may stand around planted data: letters and Han, no digit, no sign that could join it
SURROUNDING = st.text(alphabet=string.ascii_letters + " ,!?，。！你我他好难过今天", max_size=30)
PLANTED = [
    ("phone", "(415) 555-0132"),
    ("phone", "+44 7700 900461"),
    ("phone", "13812345678"),
    ("phone", "010-12345678"),
    ("email", "ann.lee@example.com"),
    ("handle", "@sunny_daze77"),
    ("handle", "微信号：wx_lonelyfish"),
    ("handle", "foxglove#4821"),
    ("id-number", "11010519491231002X"),
    ("id-number", "4111 1111 1111 1111"),
    ("id-number", "219-09-9999"),
    ("id-number", "203.0.113.77"),
]


def _is_hit(kind: str, text: str) -> bool:
    return CONTACT_RULES[kind](pa.array([text])).to_pylist() == [True]


@pytest.mark.parametrize(("kind", "planted"), PLANTED)
@settings(max_examples=25, deadline=None)
@given(before=SURROUNDING, after=SURROUNDING)
def test_planted_data_is_found_in_any_surrounding(kind, planted, before, after):
    assert _is_hit(kind, f"{before} {planted} {after}")


@settings(max_examples=100, deadline=None)
@given(text=st.text(alphabet=st.characters(blacklist_categories=("N", "Cs"), blacklist_characters="@幺两")))
def test_text_without_a_digit_has_no_phone_and_no_id_number(text):
    text = "".join(c for c in text if c not in "零〇一二三四五六七八九" and not c.isdigit())
    assert not _is_hit("phone", text)
    assert not _is_hit("id-number", text) or ":" in text  # an IPv6 address of letters


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(st.one_of(st.none(), st.text()), max_size=8), seed=st.integers(0, 99))
def test_each_text_is_judged_alone(texts, seed):
    order = list(range(len(texts)))
    random.Random(seed).shuffle(order)
    for rule in CONTACT_RULES.values():
        whole = rule(pa.array(texts, pa.string())).to_pylist()
        shuffled = rule(pa.array([texts[i] for i in order], pa.string())).to_pylist()
        assert all(isinstance(hit, bool) for hit in whole)
        assert shuffled == [whole[i] for i in order]


@pytest.mark.parametrize(
    "text",
    [
        "i was born in 1998", "it cost me $1,250,000", "we lost 21-14", "10:30-11:45 tomorrow", "between 2015 and 2019",
        "12/05/2021 was bad", "2021-12-05", "i have 3000000 points", "call me in 2020", "我2008年就认识他了", "欠了200000块",
        "我充了6480", "10086又打电话来了", "12345678这种密码", "pi is 3.14159265358979", "text me 2021-12-05",
    ],
)  # fmt: skip
def test_a_year_price_score_time_or_date_is_no_phone(text):
    assert has_phone(pa.array([text])).to_pylist() == [False]


@pytest.mark.parametrize(
    "text",
    [
        "my number is 07700 900461", "ring me: 555-0123", "２１２ ５５５ ０１４７", "有事call我15912345678哈", "一三八一二三四五六七八",
        "0571-88880000是我办公室", "+86 15012340000",
    ],
)  # fmt: skip
def test_a_phone_is_found_in_many_spellings(text):
    assert has_phone(pa.array([text])).to_pylist() == [True]


@pytest.mark.parametrize(
    "text",
    ["derek.b at example dot com", "ＢＥＴＨ＠ＥＸＡＭＰＬＥ．ＣＯＭ", "ann @ example . com", "t_w+x@mail.example.org"],
)
def test_an_email_is_found_in_many_spellings(text):
    assert has_email(pa.array([text])).to_pylist() == [True]


@pytest.mark.parametrize("text", ["meet @ 5pm?", "i'm at home, dot", "im @ work.then i left", "@home all day"])
def test_an_at_sign_alone_is_no_email(text):
    assert has_email(pa.array([text])).to_pylist() == [False]


@pytest.mark.parametrize(
    "text",
    [
        "加v：moon_light88",
        "QQ 123456789",
        "my ig is lunar.fox",
        "my twitter handle is gloomy",
        "u/throwaway_moth",
        "@小鹿乱撞 在吗",
    ],
)
def test_a_handle_is_found(text):
    assert has_handle(pa.array([text])).to_pylist() == [True]


@pytest.mark.parametrize(
    "text",
    ["i deleted my insta, too toxic", "我把QQ卸载了", "微信转了20000块", "抖音 10000个赞", "my snap is broken", "meet @ 5pm", "@home all day",
     "my shirt was inside-out", "在群里@朋友，让她们帮忙"],
)  # fmt: skip
def test_a_network_without_a_name_is_no_handle(text):
    assert has_handle(pa.array([text])).to_pylist() == [False]


@pytest.mark.parametrize(
    "number", ["110105194912310021", "11010519491331002X", "4111 1111 1111 1112", "1111111111111111"]
)
def test_a_number_with_a_wrong_check_digit_is_no_paper(number):
    assert has_id_number(pa.array([f"it is {number}"])).to_pylist() == [False]


@pytest.mark.parametrize(
    "text", ["我的ip是203.0.113.7一直掉线", "护照G12345678过期了", "身份证11010519491231002X丢了", "车牌京A12345挡路了"]
)
def test_han_characters_beside_a_number_do_not_hide_it(text):
    assert has_id_number(pa.array([text])).to_pylist() == [True]


@pytest.mark.parametrize("text", ["version 10.0.19.2", "ping 127.0.0.1", "my router is 192.168.1.1"])
def test_a_version_or_a_local_address_identifies_nobody(text):
    assert has_id_number(pa.array([text])).to_pylist() == [False]


@settings(max_examples=50, deadline=None)
@given(head=st.integers(10**10, 10**15 - 1).map(lambda n: "4" + str(n)))
def test_luhn_takes_exactly_one_last_digit(head):
    # Luhn's digit is unique: of ten numbers that differ in the last one, one is a card.
    hits = has_id_number(pa.array([f"card {head}{digit} ok" for digit in range(10)])).to_pylist()
    assert sum(hits) == (1 if 12 <= len(head) <= 18 else 0)


def test_an_american_number_is_told_by_its_signs_in_a_chinese_text():
    assert _is_hit("phone", "今今 (415) 555-0132 今今")
    assert not _is_hit("phone", "今今 4155550132 今今")  # ten digits anywhere are not yet a number


@pytest.mark.parametrize(
    ("text", "is_hit"), [("V 203.0.113.77", True), ("forever 203.0.113.77", True), ("version 203.0.113.77", False)]
)
def test_a_version_is_no_address(text, is_hit):
    assert _is_hit("id-number", text) == is_hit


def test_a_text_is_judged_by_itself_whatever_its_neighbours_are():
    texts = ["call ①③⑧①②③④⑤⑥⑦⑧ now", "好：", "１３８１２３４５６７８"]
    alone = [_is_hit("phone", t) for t in texts]
    assert CONTACT_RULES["phone"](pa.array(texts)).to_pylist() == alone
    assert alone[2]
