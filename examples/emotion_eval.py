"""Measure emotion classifiers on every labelled set of PEGE_DATA: `python examples/emotion_eval.py OUT MODEL...`.

OUT is the folder of `examples/emotion_data.py` (its held-out splits); MODEL a folder or `default`. Prints a table of
macro-F1 / ECE a set, and for EmpatheticDialogues how well the sign of the situation is told from the first utterance,
and the shares that the corpus filters keep (max p > 0.5; P(positive) of the user's last utterance > 0.9).
"""

from __future__ import annotations

import gzip
import json
import os
import sys
from pathlib import Path

import numpy as np

from pege.emotion import EmotionClassifier, LabelledTexts, load_emotion_classifier, read_labelled
from pege.emotion.evaluation import evaluate

DATA = Path(os.environ.get("PEGE_DATA", "../shared/data"))
#: Situations of EmpatheticDialogues that are clear; the others (surprised, sentimental, ...) are left out.
SITUATIONS = {
    "positive": ["joyful", "excited", "proud", "grateful", "impressed", "content", "confident", "hopeful"],
    "negative": [
        "sad",
        "angry",
        "annoyed",
        "afraid",
        "terrified",
        "furious",
        "devastated",
        "disappointed",
        "disgusted",
        "lonely",
        "anxious",
        "embarrassed",
        "ashamed",
        "guilty",
        "jealous",
        "apprehensive",
    ],
}
DAILY_DIALOG = {
    "joy": "positive",
    "anger": "negative",
    "sadness": "negative",
    "disgust": "negative",
    "fear": "negative",
}


def labelled_sets(out: Path) -> dict[str, LabelledTexts]:
    """Every labelled set, by name."""
    found = {f"held-out-{n}": read_labelled(out / f"test-{n}.tsv.gz") for n in ("en", "zh", "cped")}
    for name in ("tweeteval-sentiment-test.en", "meld-sentiment-dev.en", "meld-sentiment-test.en"):
        found[name] = read_labelled(DATA / f"labelled/{name}.tsv.gz")
    found["dailydialog.en"] = utterances("dailydialog.en", DAILY_DIALOG | {"neutral": "neutral"})
    found["dailydialog.zh"] = utterances("dailydialog.zh", DAILY_DIALOG | {"neutral": "neutral"})
    found["empathetic-first"] = first_utterances()
    return found


def dialogs(name: str) -> list[dict]:  # type: ignore[type-arg]
    """Rows of a dialog file."""
    with gzip.open(DATA / f"dialogs/{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def texts_of(pairs: list[tuple[str, str]]) -> LabelledTexts:
    """Labelled texts of (label, text)."""
    order = ("negative", "neutral", "positive")
    return LabelledTexts([t for _, t in pairs], np.array([[float(label == o) for o in order] for label, _ in pairs]))


def utterances(name: str, meaning: dict[str, str]) -> LabelledTexts:
    """Utterances of a dialog file by the source's own emotion; other emotions are left out."""
    messages = [m for row in dialogs(name) for m in row["messages"]]
    return texts_of([(meaning[m["emotion"]], m["content"]) for m in messages if m.get("emotion") in meaning])


def first_utterances() -> LabelledTexts:
    """First utterances of EmpatheticDialogues, by the sign of a clear situation."""
    sign = {s: label for label, names in SITUATIONS.items() for s in names}
    rows = [r for part in ("dev", "test") for r in dialogs(f"empathetic-{part}.en")]
    return texts_of(
        [(sign[r["situation_emotion"]], r["messages"][0]["content"]) for r in rows if r["situation_emotion"] in sign]
    )


def polar(classifier: EmotionClassifier, texts: LabelledTexts) -> str:
    """Accuracy and AUC of p(positive) against p(negative) where texts are one or the other."""
    p = classifier.predict(texts.texts)
    margin = np.log(p[:, 2] + 1e-9) - np.log(p[:, 0] + 1e-9)
    is_positive = texts.classes == 2
    ranks = margin.argsort().argsort() + 1
    n_positive, n_negative = is_positive.sum(), (~is_positive).sum()
    auc = (ranks[is_positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)
    predicted = p.argmax(axis=1)
    wrong = ((predicted == 0) & is_positive | (predicted == 2) & ~is_positive).mean()
    return (
        f"sign accuracy {((margin > 0) == is_positive).mean():.3f}  AUC {auc:.3f}  opposite sign chosen {wrong:.3f}  "
        f"neutral chosen {(predicted == 1).mean():.3f}"
    )


def kept(classifier: EmotionClassifier, name: str) -> str:
    """Shares that the two corpus filters keep."""
    rows = [[m["content"] for m in r["messages"] if m["role"] == "user"] for r in dialogs(name)][:3000]
    first, last = classifier.predict([r[0] for r in rows]), classifier.predict([r[-1] for r in rows])
    sure, happy = first.max(axis=1) > 0.5, last[:, 2] > 0.9
    shares = np.bincount(first.argmax(axis=1), minlength=3) / len(rows)
    return (
        f"u1 {shares.round(2).tolist()}  max p(u1) > 0.5: {sure.mean():.3f}  P(positive | last) > 0.9: "
        f"{happy.mean():.3f}  > 0.7: {(last[:, 2] > 0.7).mean():.3f}  both: {(sure & happy).mean():.3f}"
    )


def main(out: Path, models: list[str]) -> None:
    """Print the tables."""
    sets = labelled_sets(out)
    for model in models:
        classifier = load_emotion_classifier(model)
        print(f"\n{classifier.name} ({model}), temperature {classifier.config.temperature:.3f}")
        for name, texts in sets.items():
            if name == "empathetic-first":
                print(f"  {name:30} n {len(texts.texts):6}  {polar(classifier, texts)}")
                continue
            e = evaluate(classifier, texts)
            f1 = " ".join(f"{c['f1']:.3f}" for c in e["classes"].values())
            print(f"  {name:30} n {e['n']:6}  macro-F1 {e['macro_f1']:.3f} ({f1})  ECE {e['ece']:.3f}")
        for name in ("empathetic-dev.en", "dailydialog.en", "dailydialog.zh", "smilechat.zh", "esconv.en"):
            print(f"  {name:30} {kept(classifier, name)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
