"""Training of the crisis classifier on labelled lines, and its figures. Needs scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pege.errors import InputError
from pege.io import write_atomic
from pege.safety.check import judge
from pege.safety.classifier import LABELS, N_BUCKETS, dense_row, features_of
from pege.safety.normalize import forms
from pege.safety.phrases import KINDS, Kind, find_phrase, without_idioms
from pege.words import guess_language

Array = NDArray[np.float64]
_C = 20.0  # inverse of the L2 penalty
_N_FOLDS = 5
_BACKGROUND_WEIGHT = 0.5
_CLASS_NONE = LABELS.index("none")


def train_classifier(
    texts: Sequence[str],
    classes: NDArray[np.int64],
    output: Path,
    *,
    background: Sequence[str] = (),
    recall: float = 0.9,
    seed: int = 0,
) -> dict[str, Any]:
    """Train, choose the threshold and save.

    The threshold comes from predictions of models that did not see the line (5 folds): the largest at which, together
    with the list of phrases, the share ``recall`` of the crises is found.

    Args:
        texts: N lines.
        classes: (N,) indices into ``LABELS``.
        output: the safetensors file to write.
        background: ordinary lines without a crisis, M of them, beside the hard ones of ``texts``; they weigh less.
        recall: in (0, 1).
        seed: of the folds.

    Returns:
        ``n``, ``threshold``, and of the folds ``recall``, ``false_alarms`` and ``background_alarms``, shares of lines.

    Raises:
        InputError: no scikit-learn, a class without lines, a recall out of its range, a file that cannot be written.
    """
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as e:
        raise InputError("training needs scikit-learn", fix="pip install 'pege[lexicon]'") from e

    if not 0 < recall < 1:
        raise InputError(f"{recall} is no recall", where="--recall", fix="between 0 and 1")
    counts = np.bincount(classes, minlength=len(LABELS))
    if counts.min() < _N_FOLDS:
        raise InputError(f"too few lines of {LABELS[int(counts.argmin())]!r}", fix=f"{_N_FOLDS} or more of each label")
    n = len(texts)
    folds = np.random.default_rng(seed).permutation(n + len(background)) % _N_FOLDS
    matrix, phrases = _matrix([*texts, *background])
    targets = np.concatenate((classes, np.full(len(background), _CLASS_NONE)))
    weights = np.concatenate((np.ones(n), np.full(len(background), _BACKGROUND_WEIGHT)))
    score = np.ones(len(targets))
    for fold in range(_N_FOLDS):
        is_out = folds == fold
        fitted = LogisticRegression(C=_C, max_iter=1000).fit(matrix[~is_out], targets[~is_out], weights[~is_out])
        score[is_out] = 1 - fitted.predict_proba(matrix[is_out])[:, _CLASS_NONE]
    score[[p is not None for p in phrases]] = 1.0
    is_crisis = targets != _CLASS_NONE
    threshold = float(np.clip(np.quantile(score[is_crisis], 1 - recall), 0.01, 0.99))
    model = LogisticRegression(C=_C, max_iter=1000).fit(matrix, targets, weights)
    _save(output, model.coef_.T, model.intercept_, threshold)
    found = score >= threshold
    return {
        "n": n,
        "n_background": len(background),
        "threshold": round(threshold, 4),
        "recall": float(found[is_crisis].mean()),
        "false_alarms": float(found[:n][~is_crisis[:n]].mean()),
        "background_alarms": float(found[n:].mean()) if background else None,
    }


def _matrix(texts: Sequence[str]) -> tuple[Any, list[Kind | None]]:
    """Features (N, N_BUCKETS + D + 3), and the kind that the list of phrases finds in each text."""
    import scipy.sparse as sp

    columns: list[NDArray[np.int64]] = []
    dense, phrases = [], []
    for text in texts:
        variants = [without_idioms(f) for f in forms(text)]
        hits = (find_phrase(v) for v in variants)
        phrase = next((h[0] for h in hits if h), None)
        features = features_of(variants[0])
        columns.append(features.buckets)
        dense.append(dense_row(features, phrase))
        phrases.append(phrase)
    lengths = np.array([len(c) for c in columns])
    rows = np.repeat(np.arange(len(texts)), lengths)
    weights = np.repeat(1 / np.sqrt(np.maximum(1, lengths)), lengths)
    hashed = sp.csr_matrix((weights, (rows, np.concatenate(columns))), shape=(len(texts), N_BUCKETS))
    return sp.hstack([hashed, sp.csr_matrix(np.array(dense))]).tocsr(), phrases


def _save(output: Path, weights: Array, bias: Array, threshold: float) -> None:
    from safetensors.numpy import save_file

    hashed = weights[:N_BUCKETS]
    scale = np.abs(hashed).max(axis=0) / 127  # (K,)
    tensors = {
        "hashed": np.round(hashed / scale).astype(np.int8),
        "hashed.scale": scale.astype(np.float32),
        "dense": weights[N_BUCKETS:].astype(np.float32),
        "bias": bias.astype(np.float32),
        "threshold": np.array([threshold], dtype=np.float32),
    }
    with write_atomic(output) as temporary:
        save_file(tensors, temporary)


def evaluate(texts: Sequence[str], classes: NDArray[np.int64]) -> dict[str, Any]:
    """Measure the whole check, phrases and classifier, on labelled lines.

    Returns:
        Of each language and of ``all``: ``n``, ``recall`` (crises found, of whatever kind), ``recall_by_kind``,
        ``false_alarms`` (share of the lines without a crisis), ``phrases_recall`` (by the list alone), and
        ``confusion`` (rows: true, columns: found; in the order of ``labels``).
    """
    found = [judge(t) for t in texts]
    predicted = np.array([LABELS.index(j.crisis.kind) if j.crisis else _CLASS_NONE for j in found])
    by_phrase = np.array([j.score == 1 and j.crisis is not None for j in found])
    languages = np.array([guess_language(t) for t in texts])
    rows: dict[str, Any] = {"labels": list(LABELS)}
    for name in ("en", "zh", "all"):
        chosen = languages == name if name != "all" else np.ones(len(texts), dtype=bool)
        if chosen.any():
            rows[name] = _figures(predicted[chosen], classes[chosen], by_phrase[chosen])
    return rows


def _figures(predicted: NDArray[np.int64], classes: NDArray[np.int64], by_phrase: NDArray[np.bool_]) -> dict[str, Any]:
    k = len(LABELS)
    counts = np.bincount(classes * k + predicted, minlength=k * k).reshape(k, k)
    is_crisis, is_found = classes != _CLASS_NONE, predicted != _CLASS_NONE

    def share(of: NDArray[np.bool_], among: NDArray[np.bool_]) -> float | None:
        return float(of[among].mean()) if among.any() else None

    return {
        "n": len(classes),
        "recall": share(is_found, is_crisis),
        "recall_by_kind": {kind: share(is_found, classes == LABELS.index(kind)) for kind in KINDS},
        "false_alarms": share(is_found, ~is_crisis),
        "phrases_recall": share(by_phrase, is_crisis),
        "confusion": counts.tolist(),
    }
