"""The emotion classifier: numbers by hand, the shipped model, training, and bad files."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pege.emotion as emotion
from pege.emotion import load_emotion_classifier, read_labelled
from pege.emotion.calibration import fit_temperature, softmax
from pege.emotion.evaluation import macro_f1
from pege.errors import InputError
from pege.selfchat import check_starters, load_starters

SHIPPED = Path(emotion.__file__).parents[1] / "assets" / "emotion"


@pytest.fixture(scope="module")
def classifier():
    return load_emotion_classifier()


def test_macro_f1_by_hand():
    predicted, true = np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 2, 0])
    # F1: 0: 1/2 and 1/2; 1: 1 and 1/2 -> 2/3; 2: 1/2 and 1 -> 2/3
    assert macro_f1(predicted, true) == pytest.approx((1 / 2 + 2 / 3 + 2 / 3) / 3)


def test_the_temperature_undoes_logits_that_are_too_sure():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3)) * 2
    classes = np.array([rng.choice(3, p=p) for p in softmax(logits)])
    assert fit_temperature(logits * 3, classes) == pytest.approx(3, rel=0.1)


@given(texts=st.lists(st.text(max_size=60), min_size=1, max_size=6))
@settings(max_examples=30)
def test_every_text_gets_a_distribution_that_does_not_depend_on_its_batch(classifier, texts):
    p = classifier.predict(texts)
    assert p.shape == (len(texts), 3)
    assert p.sum(1) == pytest.approx(1)
    assert p[0] == pytest.approx(classifier.predict(texts[:1])[0], abs=1e-5)


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("Thanks, that really cheered me up!", 2),
        ("My dog died and I am heartbroken.", 0),
        ("I'm not happy about it.", 0),
        ("I went to the store.", 1),
        ("谢谢你，我感觉好多了！", 2),
        ("我很难过，不知道怎么办。", 0),
    ],
)
def test_plain_utterances_are_told_apart(classifier, text, column):
    assert classifier.predict([text])[0].argmax() == column


def test_the_starters_were_checked_by_the_classifier(classifier):
    english, chinese = (check_starters(load_starters(lang), classifier) for lang in ("en", "zh"))
    assert min(english[c]["agreed"] for c in ("negative", "neutral", "positive")) >= 33
    assert chinese["negative"]["agreed"] == 33
    assert chinese["positive"]["agreed"] >= 30


def test_the_shipped_model_is_small_and_no_pickle():
    assert (SHIPPED / "model.safetensors").stat().st_size < 8_000_000
    assert not list(SHIPPED.glob("*.bin"))


def test_importing_it_loads_no_torch():
    subprocess.run([sys.executable, "-c", "import sys, pege.emotion; assert 'torch' not in sys.modules"], check=True)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_file_cut_in_half_is_named(tmp_path, name):
    for file in ("model.safetensors", "tokenizer.json", "config.json"):
        shutil.copy(SHIPPED / file, tmp_path / file)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=name):
        load_emotion_classifier(tmp_path)
    path.unlink()
    with pytest.raises(InputError, match=f"no {name} here"):
        load_emotion_classifier(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\tb\nx\ty\n", "unknown header"),
        ("label\ttext\njoy\thi\n", "unknown label 'joy'"),
        ("label\ttext\npositive\n", "a column is missing"),
        ("negative\tneutral\tpositive\ttext\n0.5\t0.5\t0.5\thi\n", "do not sum to 1"),
        ("label\ttext\n", "no labelled text"),
    ],
)
def test_bad_labelled_text_is_named(tmp_path, text, message):
    path = tmp_path / "x.tsv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_labelled(path)


def test_labels_of_others_are_mapped(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text("label\ttext\njoy\thi\nanger\tgo\nodd\tx\n")
    found = read_labelled(path, aliases={"joy": "positive", "anger": "negative", "odd": ""})
    assert found.classes.tolist() == [2, 0]


def test_training_learns_and_what_is_saved_is_what_was_measured(tmp_path):
    from pege.emotion.train import TrainOptions, train_emotion_classifier

    words = {"negative": "awful sad bad", "neutral": "table door street", "positive": "lovely happy good"}
    lines = [f"{label}\tit is {w} {k}" for label, ws in words.items() for w in ws.split() for k in range(6)]
    (tmp_path / "x.tsv").write_text("label\ttext\n" + "\n".join(lines) + "\n")
    data = read_labelled(tmp_path / "x.tsv")
    options = TrainOptions(
        vocabulary_size=200, embedding_size=16, n_filters=8, n_epochs=8, batch_size=8, learning_rate=0.02
    )
    found = train_emotion_classifier(data, data, tmp_path / "one", options=options)
    assert found["macro_f1"] > 0.9
    loaded = load_emotion_classifier(tmp_path / "one").predict(data.texts)
    assert macro_f1(loaded.argmax(1), data.classes) == pytest.approx(found["macro_f1"])
