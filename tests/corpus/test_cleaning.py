"""Rules of cleaning: planted dirt is found, clean text is left alone, each utterance is judged by itself."""

from __future__ import annotations

import gzip
import json
import os
import re
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pege.corpus.cleaning import DEFAULT_CLEANING, RULES, active_rules, clean
from pege.corpus.codepoints import as_texts, classes, decode, decode_batch, encode, replace_in_batch
from pege.errors import InputError

REWRITES = sorted(name for name, rule in RULES.items() if rule.kind == "rewrite")
REFUSALS = sorted(name for name, rule in RULES.items() if rule.kind == "refuse")
CLEAN = [
    "I lost my job last week, and I don't know what to do...", "Oh no! What happened?", "That's £5.50 - not 3 * 4 * 5.", "OK .",
    "It's 10:30, meet me at the corner of 5th & Main.", "I got 1000000 points!!!", "My e-mail is bob_smith@example.com", "I <3 you",
    "snake_case_names and a 'quoted' one", "和/或 24/7 and/or", "我今天很难过。", "怎么了？发生了什么事？", "我用 Python 写了一个程序。",
    "哈哈哈，太好了！", "naïve café, déjà vu", "👨‍👩‍👧 says hi", ">_< oh my", "Ça va très bien", "(^_^) hello there", "I'm sure. Really",
    "Hi!!!", "No...", "救我！！！救我！！！", "嗯", "a run-of-the-mill-slice-it-right-off party", "It seemed...um...urgent...Fortunately it was not",
    "The User: a manual", "é", "我和他，他和我，都说过这件事。", "no, no, I mean yes, no problem at all, really",
]  # fmt: skip
#: what people write on the web, so that rules meet their patterns often
DIRT = st.lists(
    st.sampled_from([
        "<b>", "</b>", "<", ">", "&amp;", "&lt;", "&#39;", "amp;", "lt;", "**", "*", "_", "~~", "`", "[x](http://a.b/c)", "> ", "# ", "@", "@bob", "@小明:",
        "//@", "u/", "r/all", "/", "回复", "http://", "https://x.com/a?b=c", "www.", "a.com", ".", "哈", "a", "A", "0", " ", "\n", "\t", "\u3000", "\u200b",
        "\u200d", "👨", "👩", "\ufe0f", "e\u0301", "\u0301", "\u1161", "\u1100", "Ａ", "ﬁ", "ﾞ", "ｶ", "\ufeff", "\x00", "\x1c", "\x85", "，", "我", "の", "Ã©", "\ufffd",
        "&", ";", "(", ")", "[", "]", "no ", "\ue000", "\U0001d400", "\U0010ffff", "1", "-", ":", "：",
    ]),
    max_size=14,
).map("".join)  # fmt: skip
TEXTS = st.one_of(DIRT, st.text(max_size=40))


def run(name, texts, **options):
    (rule,) = active_rules([{"rule": name, **options}])
    return rule(as_texts(texts)).to_pylist()


@pytest.mark.parametrize("name", REWRITES)
@settings(deadline=None, max_examples=50)
@given(texts=st.lists(TEXTS, min_size=1, max_size=6))
def test_a_rewrite_leaves_what_it_wrote_alone(name, texts):
    once = run(name, texts)
    assert run(name, once) == once


@pytest.mark.parametrize("name", sorted(RULES))
@settings(deadline=None, max_examples=20)
@given(texts=st.lists(TEXTS, max_size=12), data=st.data())
def test_a_rule_looks_at_one_utterance_at_a_time(name, texts, data):
    alone = [run(name, [t])[0] for t in texts]
    assert run(name, texts) == alone
    order = data.draw(st.permutations(range(len(texts))))
    assert run(name, [texts[k] for k in order]) == [alone[k] for k in order]


@settings(deadline=None)
@given(
    st.lists(st.one_of(st.text(max_size=20), st.text(st.characters(categories=["Cs", "Co", "Cn", "Cc", "Cf", "Mn"]))))
)
def test_no_text_of_unicode_raises(texts):
    rewritten, reasons = clean(as_texts(texts), tuple(RULES.values()))
    assert len(rewritten) == len(reasons) == len(texts)


@settings(deadline=None)
@given(st.lists(TEXTS, max_size=8), st.integers(0, 8))
def test_a_slice_is_cleaned_as_its_copy(texts, start):
    whole = as_texts(texts)
    rules = active_rules(DEFAULT_CLEANING)
    sliced = clean(whole.slice(start), rules)
    assert [a.to_pylist() for a in sliced] == [a.to_pylist() for a in clean(as_texts(texts[start:]), rules)]


@pytest.mark.parametrize("name", [*REWRITES, *(name for name in REFUSALS if name != "too-short")])
def test_clean_text_is_left_alone(name):
    texts = [t for t in CLEAN if not (name == "whitespace" and "OK" in t)]
    wanted = texts if RULES[name].kind == "rewrite" else [False] * len(texts)
    assert dict(zip(texts, run(name, texts), strict=True)) == dict(zip(texts, wanted, strict=True))


@pytest.mark.parametrize(
    ("name", "dirty", "tidy"),
    [
        ("unicode", "Ｈｅｌｌｏ　ｗｏｒｌｄ！", "Hello\u3000world！"),
        ("unicode", "我很难过，真的！（１２３）", "我很难过，真的！（123）"),
        ("unicode", "𝓱𝓮𝓵𝓵𝓸 ﬁne", "hello fine"),
        ("unicode", "cafe\u0301", "café"),
        ("unicode", "ｶﾞ", "ガ"),
        ("unicode", "a\u200bb\ufeffc\x00d\u202ee", "abcde"),
        ("unicode", "a\u200db", "ab"),
        ("unicode", "👩\u200d🚀", "👩\u200d🚀"),
        ("unicode", "① ½ ™ …", "① ½ ™ …"),
        ("whitespace", "  a \t\n b\u3000c ", "a b c"),
        ("whitespace", "我 今天 很 难过 。", "我今天很难过。"),
        ("whitespace", "我 用 Python 写 代码", "我用 Python 写代码"),
        ("markup", "<b>bold</b><br/>new &amp; old &lt;3", "bold new & old <3"),
        ("markup", '<a href="http://x.y/z">link</a>', "link"),
        ("markup", "&amp;amp;quot;hi&amp;quot;", '"hi"'),
        ("markup", "this is **very** *nice* and ~~not~~ `code`", "this is very nice and not code"),
        ("markup", "see [this page](https://example.org/a)", "see this page"),
        ("markup", "> what you said\nI agree", "what you said\nI agree"),
        ("markup", "## Title", "Title"),
        ("markup", "<<b>b>x", " x"),
        ("urls", "look https://example.com/a?b=1 now", "look   now"),
        ("urls", "看www.taobao.com，好吗", "看 ，好吗"),
        ("urls", "on example.co.uk/shop and youtu.be/abc", "on   and  "),
        ("mentions", "@bob thanks!", " thanks!"),
        ("mentions", "回复@小明:谢谢", " 谢谢"),
        ("mentions", "好的//@小红：是吗", "好的 是吗"),
        ("mentions", "as u/some_one said on r/all", "as  said on "),
        ("repeated-characters", "noooooo!!!!!!", "nooo!!!"),
        ("repeated-characters", "哈哈哈哈哈哈 10000000", "哈哈哈 10000000"),
    ],
)
def test_dirt_is_taken_away(name, dirty, tidy):
    assert run(name, [dirty]) == [tidy]


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("empty", ["", " \n", "\u3000"]),
        ("too-short", ["", "a", " b ", "！"]),
        ("too-long", ["x" * 1025, "a " * 257]),
        ("url", ["see http://a.b", "www.example", "buy at shop.example.com today", "youtu.be/x", "看taobao.com/1"]),
        ("refuse-markup", ["<div>", "a &nbsp; b", "so *nice*", "**x**", "[a](http://b)"]),
        ("refuse-repeated-characters", ["noooooooooooo", "哈" * 10]),
        ("repeated-words", ["no " * 8, "I love you " * 4, "Bye! bye, BYE bye bye bye bye bye", "好的" * 5, "a b c d e f g h " * 3]),
        ("few-letters", ["???", "12", "!?!? a", "->->-> ok", "😀😀😀"]),
        ("long-word", ["a" * 31, "hi " + "x1" * 16, "中" + "z" * 31 + "文"]),
        ("speaker-label", ["谢谢你。支持者：不用客气", "求助者: 我很难过", "I see. Therapist: Go on.", "User: hi"]),
        ("ad", ["Use my promo code SAVE10", "Limited time offer", "加我微信：abc12345", "点击下方链接", "全场包邮"]),
        ("mojibake", ["cafÃ©", "itâ€™s", "锟斤拷", "\ufffd", "ä½\xa0å¥½", "鈥檚"]),
    ],
)  # fmt: skip
def test_planted_dirt_is_refused(name, bad):
    assert dict(zip(bad, run(name, bad), strict=True)) == dict.fromkeys(bad, True)


@settings(deadline=None)
@given(st.text("ab我!0 ", max_size=30), st.integers(1, 5))
def test_no_longer_run_is_left(text, max_run):
    (cut,) = run("repeated-characters", [text], max_run=max_run)
    assert not any(c * (max_run + 1) in cut for c in "ab我!")
    assert cut.count("0") == text.count("0")


@settings(deadline=None)
@given(st.lists(st.sampled_from(["no", "yes", "on", "maybe", "我", "，"]), min_size=1, max_size=20))
def test_the_most_frequent_word_is_counted_as_by_hand(words):
    said = [w for w in words if w != "，"]
    is_frequent = len(said) >= 8 and Counter(said).most_common(1)[0][1] > 0.4 * len(said)
    assert run("repeated-words", [" ".join(words)], max_share=0.4, max_loop=1.0) == [is_frequent]


@settings(deadline=None)
@given(st.lists(st.sampled_from("abcd"), max_size=24))
def test_loops_are_counted_as_by_hand(words):
    n = len(words)
    worst = max(sum(a == b for a, b in zip(words, words[k:], strict=False)) for k in range(1, 9))
    assert run("repeated-words", [" ".join(words)], max_share=1.0, max_loop=0.6) == [n >= 8 and worst > 0.6 * n]


@settings(deadline=None)
@given(st.lists(st.text("xy 我\n-", max_size=80), max_size=5), st.integers(1, 40))
def test_the_longest_word_is_measured_as_by_hand(texts, max_chars):
    longest = [max((len(w) for w in re.split("[^xy]", t)), default=0) for t in texts]
    assert run("long-word", texts, max_chars=max_chars) == [n > max_chars for n in longest]


def test_the_first_rule_that_refuses_gives_the_reason_of_its_utterance():
    rules = active_rules(
        [{"rule": "url"}, {"rule": "urls"}, {"rule": "refuse-markup"}, {"rule": "too-short", "min_chars": 4}]
    )
    texts, reasons = clean(pa.array(["http://a.b <b>x</b>", "<b>x</b>", "abc", "abcd", None]), rules)
    assert reasons.to_pylist() == ["url", "markup", "too-short", None, "too-short"]
    assert texts.to_pylist()[1:] == ["<b>x</b>", "abc", "abcd", ""]


def test_many_batches_come_back_in_order():
    texts = as_texts(f"this is utterance {k}" + "!" * (k % 7) for k in range(20_000))
    cleaned, reasons = clean(texts, active_rules(DEFAULT_CLEANING))
    assert cleaned.to_pylist() == [f"this is utterance {k}" + "!" * min(k % 7, 3) for k in range(20_000)]
    assert reasons.null_count == 20_000


def test_the_default_list_lets_people_talk_and_names_what_it_refuses():
    dirty = {
        "": "empty",
        "x": "too-short",
        "see http://a.b ok": "url",
        "... !!": "few-letters",
        "buy now and get one": "ad",
    }
    _, reasons = clean(as_texts([*CLEAN[:-3], *dirty]), active_rules(DEFAULT_CLEANING))
    assert reasons.to_pylist() == [None] * len(CLEAN[:-3]) + list(dirty.values())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([{"rule": "unicod"}], r"cleaning\.0: unknown rule 'unicod'; did you mean 'unicode'"),
        ([{"rule": "url"}, {"rule": "too-long", "max_char": 3}], r"cleaning\.1: unknown option 'max_char' of too-long; did you mean 'max_chars'"),
        ([{"rule": "url", "x": 1}], "url has no options"),
        ([{"rule": "too-long", "max_chars": 0}], "too-long: max_chars: Input should be greater than or equal to 1"),
        ([{"name": "url"}], "names no rule"),
        ("url", "no list of rules"),
        ({"rule": "url"}, "no list of rules"),
    ],
)  # fmt: skip
def test_a_wrong_config_is_one_line(config, message):
    with pytest.raises(InputError, match=message):
        active_rules(config)


# ---- code points


@settings(deadline=None)
@given(st.lists(st.text(max_size=20)))
def test_code_points_are_those_of_python(texts):
    points = decode(as_texts(texts))
    values = "".join(texts)
    assert points.points.tolist() == [ord(c) for c in values]
    assert encode(points).to_pylist() == texts
    assert points.starts.tolist() == np.cumsum([0, *map(len, texts)]).tolist()


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(max_size=5), st.none() | st.text(max_size=5)), min_size=1, max_size=40))
def test_what_is_remembered_of_a_batch_follows_its_changes(pairs):
    texts = as_texts(old for old, _ in pairs)
    decode_batch(texts)
    mask = np.array([new is not None for _, new in pairs])
    result = replace_in_batch(texts, mask, as_texts(new for _, new in pairs if new is not None))
    assert result.to_pylist() == [old if new is None else new for old, new in pairs]
    assert decode_batch(result).points.tolist() == decode(result).points.tolist()
    assert decode_batch(result).starts.tolist() == decode(result).starts.tolist()


def test_a_lone_surrogate_becomes_the_sign_for_lost_text():
    assert as_texts(["a\ud800b", "ok"]).to_pylist() == ["a\ufffdb", "ok"]


@settings(deadline=None)
@given(st.characters())
def test_classes_are_those_of_unicodedata(character):
    bits = int(classes()[ord(character)])
    assert bool(bits & 1) == character.isspace()
    assert bool(bits & 2) == unicodedata.category(character).startswith("L") or ord(character) >= 0x323B0


# ---- real talk


@pytest.mark.data
@pytest.mark.parametrize("name", ["dailydialog.en", "dailydialog.zh"])
def test_everyday_talk_is_kept(name):
    path = Path(os.environ.get("PEGE_DATA", "../shared/data")) / "dialogs" / f"{name}.jsonl.gz"
    if not path.is_file():
        pytest.skip("PEGE_DATA points nowhere")
    with gzip.open(path, "rt", encoding="utf-8") as rows:
        texts = as_texts(m["content"] for row in rows for m in json.loads(row)["messages"])
    _, reasons = clean(texts, active_rules(DEFAULT_CLEANING))
    assert reasons.null_count >= 0.98 * len(texts)
