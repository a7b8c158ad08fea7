"""The crisis classifier: a linear model on words, concepts and word vectors. numpy only, weights as safetensors."""

from __future__ import annotations

import functools
import importlib.resources
import itertools
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pege.errors import InputError
from pege.safety.normalize import HAN
from pege.safety.phrases import KINDS

LABELS = ("none", *KINDS)
MODEL_FILE, VECTORS_FILE = "model.safetensors", "vectors.safetensors"
N_BUCKETS = 1 << 15  # of hashed features
_NEAR = 6  # words between two concepts that count as a pair
_SUFFIXES = ("ing", "ed", "es", "s")
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Features:
    """What the model sees of a text: the buckets of its hashed features, each once, and its mean word vector (D,)."""

    buckets: NDArray[np.int64]
    vector: Array


@dataclass(frozen=True)
class Vectors:
    """Word vectors, (D,) each, by word."""

    values: dict[str, Array]
    size: int
    longest: int  #: characters of the longest Chinese word


@dataclass(frozen=True)
class CrisisClassifier:
    """A softmax over ``LABELS``.

    Attributes:
        hashed: (N_BUCKETS, K) weights of hashed features.
        dense: (D + 3, K) weights of the mean word vector and of a phrase of each kind.
        bias: (K,).
        threshold: p(none) at most 1 - threshold is a crisis.
    """

    hashed: Array
    dense: Array
    bias: Array
    threshold: float

    def predict(self, features: Features, phrase: str | None) -> Array:
        """Give (K,) probabilities in the order of ``LABELS``; a phrase is the kind that the list found."""
        weight = 1 / np.sqrt(max(1, len(features.buckets)))
        logits = self.bias + weight * self.hashed[features.buckets].sum(axis=0)
        logits = logits + dense_row(features, phrase) @ self.dense
        exps = np.exp(logits - logits.max())
        probabilities: Array = exps / exps.sum()
        return probabilities


def dense_row(features: Features, phrase: str | None) -> Array:
    """Give (D + 3,): the mean word vector, and whether the list found a phrase of each kind."""
    found = np.array([float(phrase == kind) for kind in KINDS])
    return np.concatenate((features.vector, found))


def features_of(text: str) -> Features:
    """Give the features of a plain text without idioms."""
    words, tagged, concepts = _tokens(text)
    codes = itertools.chain(_runs("w", words), _runs("t", tagged), _pairs(concepts), _letters(words))
    buckets = sorted({code % N_BUCKETS for code in codes})
    return Features(np.array(buckets, dtype=np.int64), _mean_vector(text))


def _runs(kind: str, words: list[str]) -> Iterator[int]:
    """Codes of the runs of 1-4 words, CRC-32 of ``kind`` and the words with spaces, each from the one before it."""
    start, apart = zlib.crc32(kind.encode()), [f" {word}".encode() for word in words]
    for k, word in enumerate(words):
        code = zlib.crc32(word.encode(), start)
        yield code
        for after in apart[k + 1 : k + 4]:
            code = zlib.crc32(after, code)
            yield code


def _pairs(concepts: list[list[str]]) -> Iterator[int]:
    """Codes of two concepts, the one within ``_NEAR`` words after the other or anywhere in the text."""
    near = {
        f"p{first}>{second}"
        for k, found in enumerate(concepts)
        for first in found
        for after in concepts[k + 1 : k + 1 + _NEAR]
        for second in after
    }
    present = sorted({c for found in concepts for c in found})
    yield from (zlib.crc32(name.encode()) for name in near)
    yield from (zlib.crc32(f"b{a}&{b}".encode()) for a, b in itertools.combinations(present, 2))


def _letters(words: list[str]) -> Iterator[int]:
    """Codes of 3-5 letters in a row of each English word."""
    start = zlib.crc32(b"c")
    for word in set(words):
        if word.isascii() and len(word) > 2:
            framed = f"^{word}$".encode()
            yield from (zlib.crc32(framed[k : k + n], start) for n in (3, 4, 5) for k in range(len(framed) - n + 1))


def _tokens(text: str) -> tuple[list[str], list[str], list[list[str]]]:
    """Words (Chinese: characters); words with a concept's name in the place of its words; the concepts of each."""
    english, chinese, pattern = _concepts()
    words: list[str] = []
    tagged: list[str] = []
    concepts: list[list[str]] = []
    for match in pattern.finditer(text):
        known, character, word, mark = match.groups()
        if known:
            words += known
            found, name = chinese[known], known
        elif word:
            words.append(word)
            found, name = english.get(word) or english.get(_stem(word)) or [], _stem(word)
        else:
            words.append(character or mark)
            found, name = [], character or mark
        tagged.append(f"<{found[0]}>" if found else name)
        concepts.append(found)
    return words, tagged, concepts


def _stem(word: str) -> str:
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            return word[: -len(suffix)]
    return word


@functools.cache
def _concepts() -> tuple[dict[str, list[str]], dict[str, list[str]], re.Pattern[str]]:
    lists = json.loads(_asset("concepts.json").read_text(encoding="utf-8"))
    found: tuple[dict[str, list[str]], dict[str, list[str]]] = ({}, {})
    for concept, by_language in lists.items():
        for place, language in enumerate(("en", "zh")):
            for word in by_language[language].split():
                found[place].setdefault(word, []).append(concept)
    known = "|".join(sorted(map(re.escape, found[1]), key=len, reverse=True))
    return *found, re.compile(rf"({known})|([{HAN}])|([a-z0-9]+)|([?!;])")


def _mean_vector(text: str) -> Array:
    """Sum of the vectors of the words, over the root of their number; 0 where none is known."""
    vectors = load_vectors()
    found = [vectors.values[w] for w in _known_words(text, vectors)]
    return np.sum(found, axis=0) / np.sqrt(len(found)) if found else np.zeros(vectors.size)


def _known_words(text: str, vectors: Vectors) -> Iterator[str]:
    """English words; of Chinese the longest known word from each place on."""
    for run in re.findall(rf"[a-z]+|[{HAN}]+", text):
        if run.isascii():
            if run in vectors.values:
                yield run
            continue
        k = 0
        while k < len(run):
            lengths = range(min(vectors.longest, len(run) - k), 0, -1)
            n = next((n for n in lengths if run[k : k + n] in vectors.values), 0)
            if n:
                yield run[k : k + n]
            k += max(1, n)


def _asset(name: str) -> Any:
    return importlib.resources.files("pege") / "assets" / "safety" / name


def _read_tensors(path: Any) -> dict[str, Any]:
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load
    except ImportError as e:
        raise InputError("the crisis classifier needs safetensors", fix="pip install safetensors") from e
    try:
        tensors: dict[str, Any] = load(path.read_bytes())
    except (OSError, SafetensorError) as e:
        raise InputError("the crisis classifier is missing or broken", where=path, fix="install pege again") from e
    return tensors


@functools.cache
def load_vectors() -> Vectors:
    """Load the word vectors of the package.

    Raises:
        InputError: they are missing or broken.
    """
    tensors = _read_tensors(_asset(VECTORS_FILE))
    values: dict[str, Array] = {}
    for language in ("en", "zh"):
        words = tensors[f"{language}.words"].tobytes().decode().split("\n")
        table = tensors[f"{language}.values"].astype(np.float64) * float(tensors[f"{language}.scale"][0])
        values.update(zip(words, table, strict=True))
    chinese = tensors["zh.words"].tobytes().decode().split("\n")
    return Vectors(values, table.shape[1], max(map(len, chinese)))


@functools.cache
def load_classifier(path: Path | None = None) -> CrisisClassifier:
    """Load a classifier that ``pege safety train`` wrote; None for the one in the package.

    Raises:
        InputError: it is missing, broken, or of another shape.
    """
    source = _asset(MODEL_FILE) if path is None else path
    tensors = _read_tensors(source)
    try:
        hashed = tensors["hashed"].astype(np.float64) * tensors["hashed.scale"].astype(np.float64)
        dense, bias = (tensors[name].astype(np.float64) for name in ("dense", "bias"))
        threshold = float(tensors["threshold"][0])
    except (KeyError, ValueError, IndexError, AttributeError) as e:
        raise InputError("is no crisis classifier", where=source, fix="train it with `pege safety train`") from e
    k, is_finite = len(LABELS), all(np.isfinite(a).all() for a in (hashed, dense, bias))
    shapes = (hashed.shape, dense.shape, bias.shape) == ((N_BUCKETS, k), (load_vectors().size + len(KINDS), k), (k,))
    if not shapes or not is_finite or not 0 < threshold < 1:
        raise InputError("is no crisis classifier of this version", where=source, fix="train it again")
    return CrisisClassifier(hashed, dense, bias, threshold)
