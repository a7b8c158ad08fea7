"""How good a classifier is on labelled text: macro-F1, each class, confusion, calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pege.emotion.calibration import expected_calibration_error
from pege.emotion.labelled import LABELS, LabelledTexts

if TYPE_CHECKING:
    from pege.emotion.classifier import EmotionClassifier

Classes = NDArray[np.int64]


def confusion(predicted: Classes, classes: Classes) -> NDArray[np.int64]:
    """Count texts: rows are what they are, columns what was predicted; (3, 3)."""
    n = len(LABELS)
    return np.bincount(np.asarray(classes) * n + np.asarray(predicted), minlength=n * n).reshape(n, n).astype(np.int64)


def scores_by_class(counts: NDArray[np.int64]) -> list[tuple[float, float, float]]:
    """Give precision, recall and F1 of each class from a confusion table; 0 where a class was never predicted."""
    hits = np.diag(counts).astype(np.float64)
    n_predicted, n_true = counts.sum(axis=0), counts.sum(axis=1)
    precision = hits / np.maximum(n_predicted, 1)
    recall = hits / np.maximum(n_true, 1)
    f1 = 2 * hits / np.maximum(n_predicted + n_true, 1)
    return list(zip(precision.tolist(), recall.tolist(), f1.tolist(), strict=True))


def macro_f1(predicted: Classes, classes: Classes) -> float:
    """Give the mean F1 over the classes that occur, in the texts or in the predictions."""
    counts = confusion(predicted, classes)
    occurs = (counts.sum(axis=0) + counts.sum(axis=1)) > 0
    f1 = np.array([s[2] for s in scores_by_class(counts)])
    return float(f1[occurs].mean())


def evaluate(classifier: EmotionClassifier, texts: LabelledTexts) -> dict[str, Any]:
    """Measure a classifier on labelled text.

    Returns:
        ``name``, ``n``, ``accuracy``, ``macro_f1``, ``ece`` (15 bins), ``classes`` (precision, recall, F1 and n of
        each), ``confusion`` (rows: true, columns: predicted) and ``labels``, the order of both.
    """
    probabilities = classifier.predict(texts.texts)
    predicted = probabilities.argmax(axis=1).astype(np.int64)
    counts = confusion(predicted, texts.classes)
    by_class = {
        label: {"precision": p, "recall": r, "f1": f, "n": int(counts[k].sum())}
        for k, (label, (p, r, f)) in enumerate(zip(LABELS, scores_by_class(counts), strict=True))
    }
    return {
        "name": classifier.name,
        "n": len(texts.texts),
        "accuracy": float((predicted == texts.classes).mean()),
        "macro_f1": macro_f1(predicted, texts.classes),
        "ece": expected_calibration_error(probabilities, texts.classes),
        "classes": by_class,
        "labels": list(LABELS),
        "confusion": counts.tolist(),
    }
