"""Our own lexicon: words rated by us, extended to many more by regression from word vectors (design sec. 3)."""

from __future__ import annotations

import gzip
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pege.errors import InputError
from pege.io import write_atomic
from pege.lexicon.load import DIMENSIONS, Lexicon

_GRID = {"alpha": [0.03, 0.1, 0.3, 1.0, 3.0], "gamma": [0.1, 0.25, 0.5, 1.0, 2.0, 4.0]}
_N_FOLDS = 5


@dataclass(frozen=True)
class Vectors:
    """Word vectors: ``words`` (n) and ``values`` (n, d), any scale."""

    words: list[str]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class Extension:
    """Words with a VAD each, and how well held-out ratings were met.

    Attributes:
        words: rated ones first, each once.
        values: (n, 3) in [0, 1].
        marks: (n,) ``rated`` or ``inferred``.
        held_out_r: Pearson r by dimension of cross-validated predictions with our own ratings.
    """

    words: list[str]
    values: NDArray[np.float64]
    marks: NDArray[np.str_]
    held_out_r: dict[str, float]


def read_vectors(path: Path | str) -> Vectors:
    """Read an ``.npz`` of ``words`` (strings) and ``values`` (n, d); nothing in it is unpickled.

    Raises:
        InputError: no such file, or another content.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return Vectors([str(w) for w in file["words"]], np.asarray(file["values"], dtype=np.float64))
    except (OSError, KeyError, ValueError) as e:
        raise InputError(f"holds no word vectors ({e})", where=path, fix="see examples/lexicon_vectors.py") from e


def build_lexicon(
    ratings: Lexicon, vectors: Vectors, *, leave_out: Collection[str] = (), n_words: int = 30_000, seed: int = 0
) -> Extension:
    """Extend ratings to the first words of the vectors, by kernel ridge regression fitted to the ratings alone.

    Kernel width and penalty are chosen by cross-validation on the ratings. Rated words keep their rating. Predictions
    are clipped to [0, 1].

    Args:
        ratings: our words.
        vectors: in the order of preference, e.g. by frequency.
        leave_out: words of grammar: they say nothing of a mood, but would fill most of every mean.
        n_words: of the result, at most.
        seed: of the folds.

    Raises:
        InputError: fewer than 50 rated words have a vector.
    """
    from sklearn.kernel_ridge import KernelRidge
    from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict

    row = {w: k for k, w in enumerate(vectors.words)}
    known = [w for w in ratings.words if w in row]
    if len(known) < 50:
        raise InputError(f"{len(known)} rated words have a vector", fix="give vectors of the ratings' language")
    x_all = _normalised(vectors.values)
    x = x_all[[row[w] for w in known]]
    y = ratings.values[[ratings.words[w] for w in known]]
    # words were rated in groups: a group stays in one fold, else its words would tell of each other
    groups = np.unique(y, axis=0, return_inverse=True)[1].ravel()
    folds = list(GroupKFold(_N_FOLDS, shuffle=True, random_state=seed).split(x, y, groups))
    search: Any = GridSearchCV(KernelRidge(kernel="rbf"), _GRID, cv=folds, scoring="neg_mean_squared_error")
    mean = y.mean(axis=0)
    search.fit(x, y - mean)
    held_out = cross_val_predict(search.best_estimator_, x, y - mean, cv=folds)
    r = {d: float(np.corrcoef(held_out[:, k], y[:, k])[0, 1]) for k, d in enumerate(DIMENSIONS)}
    new = [w for w in dict.fromkeys(vectors.words) if w not in ratings and w not in leave_out][
        : max(0, n_words - len(ratings))
    ]
    inferred = (search.predict(x_all[[row[w] for w in new]]) + mean).clip(0, 1) if new else np.empty((0, 3))
    return Extension(
        words=[*ratings.words, *new],
        values=np.concatenate((ratings.values, inferred)),
        marks=np.array(["rated"] * len(ratings) + ["inferred"] * len(new)),
        held_out_r=r,
    )


def _normalised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.maximum(norms, 1e-12), dtype=np.float64)


def write_lexicon(path: Path | str, extension: Extension) -> None:
    """Write ``word, valence, arousal, dominance, mark``, gzipped, the same bytes for the same words."""
    lines = ["\t".join(("word", *DIMENSIONS, "mark"))]
    for word, vad, mark in zip(extension.words, extension.values, extension.marks, strict=True):
        lines.append("\t".join((word, *(f"{x:.3f}" for x in vad), str(mark))))
    with write_atomic(path) as temporary:
        temporary.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode(), 9, mtime=0))
