"""Topics are said, not touched: sentences written here, and counselling dialogs of PEGE_DATA."""

from __future__ import annotations

import gzip
import importlib.resources
import json
import os
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pege.corpus.topics import Topics, load_topics, topic_of
from pege.errors import InputError

ON_TOPIC = {
    "Two bedroom flat for rent, utilities included in the rent": "renting",
    "主卧出租，押一付一，拎包入住": "renting",
    "We're now hiring! Send your resume to the address below": "recruitment",
    "高薪诚聘主播，日结300": "recruitment",
    "I'd like to apply for the position of secretary": "job-hunting",
    "你期望月薪是多少？": "job-hunting",
    "Single man seeking woman for dinners": "dating-ads",
    "征婚启事：女，28岁": "dating-ads",
    "Used bike for sale, asking price is 80, pick up only": "trade",
    "贵公司的报价是多少": "trade",
    "Payday loans available, no credit check needed": "loans",
    "无抵押贷款，当天放款": "loans",
    "Online casino bonus and free spins": "gambling",
    "澳门赌场首存送彩金": "gambling",
    "check out my onlyfans": "pornography",
    "同城约炮群": "pornography",
    "I'd like to book a double room, please": "travel-booking",
    "我想预订一间双人间": "travel-booking",
    "I will write your essay for you": "homework",
    "代写论文，求课后答案": "homework",
    "Thank you for calling Acme, how may I help you?": "customer-service",
    "请提供一下您的订单号": "customer-service",
    "Breaking news: shares fell 3 percent": "news-feed",
    "今天多云转晴，15℃到22℃，最高气温22度": "news-feed",
    "Selling my account, cheap, pm me": "games-trade",
    "王者代练接单": "games-trade",
    "The Republican candidate won the primary election": "politics",
    "民主党候选人赢了总统大选": "politics",
}
OFF_TOPIC = [
    "I lost my job and cannot pay the rent, I feel so ashamed.", "My landlord wants us out and I am scared.", "I sold my late father's car today and cried.",
    "I sent out fifty applications and nobody answers.", "The interview went badly, I am such a failure.", "My loans are crushing me.",
    "I gambled away our savings and my wife left me.", "My boyfriend watches porn and it hurts me.", "I failed the exam, my parents will be so disappointed.",
    "My homework keeps me up all night.", "The weather is so gloomy, it makes me sad.", "I missed my flight to see my mother in hospital.",
    "We broke up after a blind date went wrong.", "The customer yelled at me again at work.", "I am worried about the election, I cannot sleep.",
    "我失业了，房租都交不起，很绝望。", "爸妈总逼我去相亲，我很烦。", "面试又失败了，我是不是很没用？", "欠了很多网贷，不知道怎么办。", "他沉迷赌博，把家里的钱都输光了。",
    "考试没考好，很难过。", "男朋友出去一夜情，我很痛苦。", "投了很多简历都没有回音。", "今天下雨，心情也不好。", "房东要涨房租，我压力好大。", "客户今天又骂我了。", "我玩游戏停不下来，很后悔。",
]  # fmt: skip


@pytest.mark.parametrize(("text", "topic"), ON_TOPIC.items())
def test_a_text_on_a_topic_is_found(text, topic):
    assert topic_of(pa.array([text])).to_pylist() == [topic]


@pytest.mark.parametrize("text", OFF_TOPIC)
def test_a_worry_about_the_same_things_is_no_topic(text):
    assert topic_of(pa.array([text])).to_pylist() == [None]


def test_upper_case_line_breaks_and_nulls():
    texts = pa.array(["ROOM FOR\nRENT", None, "", "roomforrent"])
    assert topic_of(texts).to_pylist() == ["renting", None, None, None]


@settings(deadline=None)
@given(st.lists(st.one_of(st.sampled_from([*ON_TOPIC, *OFF_TOPIC]), st.text(max_size=20)), max_size=12))
def test_each_text_is_judged_by_itself(texts):
    assert topic_of(pa.array(texts, pa.string())).to_pylist() == [topic_of(pa.array([t])).to_pylist()[0] for t in texts]


def test_the_first_topic_of_the_list_is_given():
    topics = Topics({"a": "x", "b": "y|x"})
    assert topic_of(pa.array(["yx", "y", "z"]), topics).to_pylist() == ["a", "b", None]


def test_the_wider_net_loses_nothing():
    topics = Topics({"a": r"x.{0,3}y", "b": r"p[^q]{2,4}r"})
    assert topic_of(pa.array(["x12y", "x1234y", "pabr", "paqbr", "par"]), topics).to_pylist() == [
        "a",
        None,
        "b",
        None,
        None,
    ]


def test_a_text_that_says_a_feeling_has_no_topic(tmp_path):
    texts = pa.array(["Room for rent, and I feel so ashamed of leaving", "主卧出租，我很难过", "Room for rent"])
    assert topic_of(texts).to_pylist() == [None, None, "renting"]
    (tmp_path / "t.yaml").write_text("unless: {}")
    assert topic_of(texts, load_topics(tmp_path / "t.yaml")).to_pylist() == ["renting"] * 3
    (tmp_path / "t.yaml").write_text("unless: {en: [gloomy]}")
    texts = pa.array(["A gloomy room for rent", "主卧出租，我很难过"])
    assert topic_of(texts, load_topics(tmp_path / "t.yaml")).to_pylist() == [None, None]


def test_a_price_may_stand_at_either_end_of_an_english_phrase(tmp_path):
    (tmp_path / "t.yaml").write_text("unless: {}\nprice: {en: ['[$£] ?[0-9]+', 'only:']}")
    texts = pa.array(["it is $300", "a$300", "only: this", "lonely: this"])
    assert topic_of(texts, load_topics(tmp_path / "t.yaml")).to_pylist() == ["price", "price", "price", None]


def _posts(lang):
    source = importlib.resources.files("pege") / "assets" / "corpus" / f"topics.{lang}.jsonl"
    return [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_posts_are_found_as_the_docs_say_and_hardly_any_feeling(lang):
    posts = _posts(lang)
    is_hit = topic_of(pa.array([p["text"] for p in posts])).is_valid().to_pylist()
    deals, feelings = (
        [hit for hit, p in zip(is_hit, posts, strict=True) if p["on_topic"] == on_topic] for on_topic in (True, False)
    )
    assert len(deals) == len(feelings) == 154
    assert sum(deals) >= 0.3 * len(deals)
    assert sum(feelings) <= 2
    assert {p["topic"] for p in posts} == set(load_topics().patterns)


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_a_file_adds_topics_and_phrases_and_takes_some_away(tmp_path, suffix):
    value = {"chess": {"en": ["sicilian defen[cs]e"]}, "renting": {"zh": ["找房子"]}, "politics": {}}
    path = tmp_path / f"more.{suffix}"
    path.write_text(
        json.dumps(value) if suffix == "json" else yaml.safe_dump(value, allow_unicode=True), encoding="utf-8"
    )
    topics = load_topics(path)
    texts = pa.array(["The Sicilian  Defence", "我在找房子", "room for rent", "the presidential election"])
    assert topic_of(texts, topics).to_pylist() == ["chess", "renting", "renting", None]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"chess": ["x"]}, "topic 'chess' has no phrases by language"),
        ({"chess": {"eng": ["x"]}}, "no language 'eng'; did you mean 'en'"),
        ({"chess": {"en": "x"}}, r"chess\.en is no list of phrases"),
        ({"chess": {"en": ["(x"]}}, r"chess: '\(x' is no regular expression"),
        ({"chess": {"en": [r"(x)\1"]}}, "is no regular expression"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path, value, message):
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(value))
    with pytest.raises(InputError, match=message):
        load_topics(tmp_path / "t.yaml")


def test_no_file_is_one_line(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_topics(tmp_path / "t.yaml")


@pytest.mark.data
@pytest.mark.parametrize("name", ["emollm.zh", "smilechat.zh", "esconv.en", "empathetic-test.en"])
def test_hardly_a_dialog_of_counselling_is_on_a_topic(name):
    path = Path(os.environ.get("PEGE_DATA", "../shared/data")) / "dialogs" / f"{name}.jsonl.gz"
    if not path.is_file():
        pytest.skip("PEGE_DATA points nowhere")
    with gzip.open(path, "rt", encoding="utf-8") as rows:
        texts = pa.array(
            "\n".join(m["content"] for m in json.loads(row)["messages"])
            for _, row in zip(range(3000), rows, strict=False)
        )
    hits = topic_of(texts)
    assert len(hits) - hits.null_count <= 0.005 * len(hits)


@pytest.mark.parametrize(
    "text",
    [
        "你都有底气去作出一个全新的开始", "我浏览过一些成人网站，心里很愧疚", "这个角度来看，你更站在父亲这边", "我发了征友贴，她加我的",
        "报团在我看来是弱者的行为",
    ],
)  # fmt: skip
def test_what_the_hand_check_found_to_be_touched_only_stays(text):
    assert topic_of(pa.array([text]), load_topics()).to_pylist() == [None]


@pytest.mark.parametrize(
    ("text", "topic"),
    [("I have this old Ford that I would like to trade in .", "trade"), ("How much is the salary ?", "recruitment")],
)
def test_what_the_hand_check_found_to_be_missed_goes(text, topic):
    assert topic_of(pa.array([text]), load_topics()).to_pylist() == [topic]
