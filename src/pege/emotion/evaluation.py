"""How good a classifier is on labelled text: macro-F1, each class, confusion, calibration, agreement, time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pege.emotion.calibration import Array, expected_calibration_error
from pege.emotion.labelled import LABELS, LabelledTexts
from pege.errors import InputError

if TYPE_CHECKING:
    from pege.emotion.classifier import TextClassifier

Classes = NDArray[np.int64]
#: Of the filters in sec. 3.2: max p of the first utterance, p(positive) of the last.
PAPER_THRESHOLDS = (0.5, 0.9)


def confusion(predicted: Classes, classes: Classes, *, n_classes: int = len(LABELS)) -> NDArray[np.int64]:
    """Count texts: rows are what they are, columns what was predicted; (K, K)."""
    n = n_classes
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
    counts = confusion(predicted, classes, n_classes=int(max(np.max(predicted), np.max(classes))) + 1)
    occurs = (counts.sum(axis=0) + counts.sum(axis=1)) > 0
    f1 = np.array([s[2] for s in scores_by_class(counts)])
    return float(f1[occurs].mean())


def precision_above(probabilities: Array, classes: Classes, threshold: float) -> tuple[float, float]:
    """Give the share that is right among texts whose largest probability is above a threshold, and their share.

    Returns:
        Precision (1 where there is no such text: none is wrong) and the share of all texts, both in [0, 1].
    """
    above = probabilities.max(axis=1) > threshold
    right = probabilities.argmax(axis=1) == classes
    return float(right[above].mean()) if above.any() else 1.0, float(above.mean())


def precision_of_class(probabilities: Array, classes: Classes, k: int, threshold: float) -> tuple[float, float]:
    """Give the share that is of class k among texts with p(k) above a threshold, and their share.

    Returns:
        As `precision_above`.
    """
    above = probabilities[:, k] > threshold
    return float((classes[above] == k).mean()) if above.any() else 1.0, float(above.mean())


def cohen_kappa(first: Classes, second: Classes) -> float:
    """Give how far two classifiers agree beyond chance (Cohen 1960); 1 where they always agree."""
    n = int(max(np.max(first), np.max(second))) + 1
    shares = confusion(second, first, n_classes=n) / len(first)
    agreed, by_chance = float(np.trace(shares)), float(shares.sum(axis=0) @ shares.sum(axis=1))
    return 1.0 if by_chance >= 1 else (agreed - by_chance) / (1 - by_chance)


def evaluate(classifier: TextClassifier, texts: LabelledTexts) -> dict[str, Any]:
    """Measure a classifier on labelled text.

    Returns:
        ``name``, ``n``, ``accuracy``, ``macro_f1``, ``ece`` (15 bins), ``classes`` (precision, recall, F1 and n of
        each, and ``precision_above`` of its own p), ``precision_above`` (by threshold: precision and share of the
        texts), ``confusion`` (rows: true, columns: predicted) and ``labels``, the order of both.

    Raises:
        InputError: the texts have other labels than the classifier.
    """
    return _measure(classifier.name, _probabilities(classifier, texts), texts)


def compare(classifiers: Sequence[TextClassifier], texts: LabelledTexts) -> list[dict[str, Any]]:
    """Measure several classifiers on the same text.

    Returns:
        For each what ``evaluate`` gives and ``agreement`` (share of texts with the same class as by the first),
        ``kappa`` (Cohen's, with the first), and ``texts_per_s``, of wall-clock time.
    """
    rows: list[dict[str, Any]] = []
    first: Classes | None = None
    for classifier in classifiers:
        classifier.predict(texts.texts[:8])  # tables and threads are made at the first call
        start = time.perf_counter()
        probabilities = _probabilities(classifier, texts)
        seconds = time.perf_counter() - start
        predicted = probabilities.argmax(axis=1).astype(np.int64)
        first = predicted if first is None else first
        more = {"agreement": float((predicted == first).mean()), "kappa": cohen_kappa(first, predicted)}
        more["texts_per_s"] = len(predicted) / max(seconds, 1e-9)
        rows.append(_measure(classifier.name, probabilities, texts) | more)
    return rows


def _probabilities(classifier: TextClassifier, texts: LabelledTexts) -> Array:
    if classifier.labels != texts.labels:
        both = f"{', '.join(classifier.labels)}; the texts have {', '.join(texts.labels)}"
        raise InputError(f"tells {both}", where=classifier.name)
    return classifier.predict(texts.texts)


def _measure(name: str, probabilities: Array, texts: LabelledTexts) -> dict[str, Any]:
    predicted = probabilities.argmax(axis=1).astype(np.int64)
    counts = confusion(predicted, texts.classes, n_classes=len(texts.labels))
    by_class: dict[str, dict[str, Any]] = {
        label: {"precision": p, "recall": r, "f1": f, "n": int(counts[k].sum())}
        for k, (label, (p, r, f)) in enumerate(zip(texts.labels, scores_by_class(counts), strict=True))
    }
    for k, row in enumerate(by_class.values()):
        row["precision_above"] = _above(
            precision_of_class(probabilities, texts.classes, k, t) for t in PAPER_THRESHOLDS
        )
    return {
        "name": name,
        "n": len(texts.texts),
        "accuracy": float((predicted == texts.classes).mean()),
        "macro_f1": macro_f1(predicted, texts.classes),
        "ece": expected_calibration_error(probabilities, texts.classes),
        "classes": by_class,
        "precision_above": _above(precision_above(probabilities, texts.classes, t) for t in PAPER_THRESHOLDS),
        "labels": list(texts.labels),
        "confusion": counts.tolist(),
    }


def _above(pairs: Iterable[tuple[float, float]]) -> dict[str, dict[str, float]]:
    found = zip(PAPER_THRESHOLDS, pairs, strict=True)
    return {str(t): {"precision": precision, "share": share} for t, (precision, share) in found}
