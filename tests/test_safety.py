"""The crisis check: recall first, idioms and negations let through."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pege.safety import check_crisis, help_for, help_text


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
