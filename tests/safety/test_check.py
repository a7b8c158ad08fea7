"""The crisis check: recall first, idioms and negations let through."""

from __future__ import annotations

import importlib.resources
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pege.emotion import read_labelled
from pege.errors import InputError
from pege.safety import (
    Crisis,
    DialogJudgement,
    check_crisis,
    check_dialog,
    check_phrases,
    help_for,
    help_text,
    judge,
    judge_dialog,
)
from pege.safety.check import LOCK_SCORE
from pege.safety.classifier import LABELS, load_classifier
from pege.safety.normalize import forms, plain
from pege.safety.remember import Remembered
from pege.safety.train import evaluate, train_classifier


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("I want to kill myself", "self-harm"),
        ("i just WANT to DIE.", "self-harm"),
        ("I don’t want to live anymore", "self-harm"),
        ("I keep cutting myself at night", "self-harm"),
        ("everyone would be better off without me, I think about suicide", "self-harm"),
        ("there is no point in living", "self-harm"),
        ("I'm going to kill my boss", "harm-to-others"),
        ("he beats me every night", "abuse"),
        ("I was raped", "abuse"),
        ("my husband keeps hitting me", "abuse"),
        ("我不想活了", "self-harm"),
        ("我想自杀", "self-harm"),
        ("活着没意思，想死", "self-harm"),
        ("我想杀了他", "harm-to-others"),
        ("他经常打我", "abuse"),
        ("我被家暴了", "abuse"),
    ],
)
def test_a_crisis_is_seen(text, kind):
    crisis = check_crisis(text)
    assert crisis is not None
    assert crisis.kind == kind


@pytest.mark.parametrize(
    "text",
    [
        "this traffic kills me", "my feet are killing me", "I'm dying to see you", "I died of laughter",
        "that cake is to die for", "my dad will kill me if he finds out", "I killed some time at the airport",
        "I beat him at chess", "I don't want to die", "I was dead tired", "We watched Suicide Squad",
        "笑死我了", "累死我了", "想死你了", "饿死了，去吃饭吧", "他是我的死党", "打死我也不去", "I feel sad today", "我今天很难过",
        "kill the process", "my phone died", "I jumped into the pool", "手机死机了", "秒杀活动几点开始",
        "I used to be suicidal but I've been well for years",
    ],
)  # fmt: skip
def test_an_idiom_or_plain_sadness_is_no_crisis(text):
    assert check_crisis(text) is None


def test_an_idiom_does_not_hide_a_crisis_beside_it():
    assert check_crisis("this traffic kills me and I want to kill myself") is not None
    assert check_crisis("累死我了，我不想活了") is not None


def test_the_help_text_has_lines_in_both_languages():
    assert "988" in help_text("en")
    assert "12356" in help_text("zh")
    assert help_for("我不想活了") == help_text("zh")


def test_the_check_needs_no_model():
    code = "import sys, pege.safety; pege.safety.check_crisis('x'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "text",
    ["I want to k i l l  m y s e l f", "i wanna k1ll myself", "su1cide", "I want to di\u200be", "ｋｉｌｌ ｍｙｓｅｌｆ",
     "自 杀", "自.杀", "自、杀", "zisha", "想 死", "我想自殺", "I want to kіll mysеlf", "kiiiiill myself"],
)  # fmt: skip
def test_a_disguise_hides_nothing(text):
    assert check_crisis(text) is not None


@given(st.text(max_size=300))
def test_any_text_has_forms_and_a_judgement(text):
    assert forms(text)[0] == plain(text)
    check_crisis(text)


def test_two_utterances_that_make_a_phrase_together_are_seen():
    assert check_phrases("I want to") is None
    assert check_dialog(["I want to", "kill myself"]).kind == "self-harm"
    assert check_dialog(["hello", "nice weather"]) is None


def test_a_crisis_in_a_long_text_is_seen():
    assert check_crisis("We went to the sea. " * 200 + "I want to die. " + "It was sunny. " * 200) is not None


def test_a_classifier_that_is_cut_is_no_classifier(tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"\x00" * 40)
    with pytest.raises(InputError, match="missing or broken"):
        load_classifier(file)
    with pytest.raises(InputError, match="missing or broken"):
        load_classifier(tmp_path / "none.safetensors")


def test_the_held_out_lines_are_met_as_the_page_says():
    folder = importlib.resources.files("pege") / "assets" / "safety"
    lines = read_labelled([folder / f"test.{lang}.tsv" for lang in ("en", "zh")], labels=LABELS)
    trained = read_labelled([folder / f"train.{lang}.tsv" for lang in ("en", "zh")], labels=LABELS)
    assert not set(lines.texts) & set(trained.texts)
    found = evaluate(lines.texts, lines.classes)["all"]
    assert found["recall"] >= 0.8
    assert found["false_alarms"] <= 0.25


def test_everyday_sadness_is_hit_no_more_often_than_the_page_says():
    folder = importlib.resources.files("pege") / "assets" / "safety"
    lines = read_labelled([folder / f"sad.{lang}.tsv" for lang in ("en", "zh")], labels=LABELS)
    found = evaluate(lines.texts, lines.classes)
    assert found["all"]["n"] == 150
    assert found["en"]["false_alarms"] <= 0.29
    assert found["zh"]["false_alarms"] <= 0.41
    assert sum(judge(text).score >= LOCK_SCORE for text in lines.texts) <= 14


def test_what_is_trained_is_loaded_as_it_was(tmp_path):
    texts = [f"{word} number {k}" for word in ("fine", "dead", "hit", "beaten") for k in range(10)]
    classes = np.repeat(np.arange(4), 10)
    found = train_classifier(texts, classes, tmp_path / "m.safetensors", background=["hello there"] * 5)
    assert load_classifier(tmp_path / "m.safetensors").threshold == pytest.approx(found["threshold"], abs=1e-4)
    with pytest.raises(InputError, match="too few lines"):
        train_classifier(texts[:20], classes[:20], tmp_path / "n.safetensors")


def test_an_unsure_hit_is_answered_once_and_a_sure_one_holds(monkeypatch):
    scores = {"unsure": 0.2, "sure": 0.5, "fine": 0.0}

    def check(text):
        return Crisis("self-harm", scores[text]) if scores[text] else None

    monkeypatch.setattr("pege.safety.check._check_known", check)
    assert check_dialog(["fine", "unsure"]).score == 0.2
    assert check_dialog(["unsure", "fine"]) is None
    assert check_dialog(["sure", "fine", "fine"]).score == 0.5
    guards = [lambda text: Crisis("abuse", 0.9 if text == "unsure" else 0.4) if text != "fine" else None]
    assert judge_dialog(["unsure"], guards=guards).crisis == Crisis("self-harm", 0.2)  # answered without asking more
    assert judge_dialog(["unsure", "fine"], guards=guards).crisis == Crisis("abuse", 0.9)
    scores["odd"] = 0.0
    assert judge_dialog(["odd", "fine"], guards=guards) == DialogJudgement(None, had_crisis=True)


def test_a_turn_judges_only_what_is_new_and_no_text_is_kept(monkeypatch):
    asked = []
    monkeypatch.setattr("pege.safety.check.check_crisis", asked.append)
    said = ["an utterance of this test", "and another of it", "and a third"]
    for n in (1, 2, 3):
        judge_dialog(said[:n])
    assert asked == said
    found = Remembered(len)
    assert [found("some words"), found("some words")] == [10, 10]
    assert "some words" not in repr(vars(found))


@pytest.mark.parametrize(
    "text",
    [
        "When I was younger I was happy but now I want to kill myself tonight",
        "in the show I felt nothing and I want to kill myself",
        "my therapist says I am suicidal",
        "at work I feel suicidal",
        "he said I will kill you if you tell anyone what he does to me at night",
        "游戏里没人理我我今晚就去跳楼",
        "小时候爸爸打我现在已经不打了但是我想死",
        "看完新闻我想自杀",
        "看电影的时候我突然很想死",
    ],
)
def test_an_idiom_does_not_hide_what_is_meant(text):
    assert check_phrases(text)
