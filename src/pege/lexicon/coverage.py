"""How much of a vocabulary and of running text a lexicon knows; how two lexicons agree."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from pege.lexicon.extend import STEP_NAMES, TokenVad
from pege.lexicon.load import DIMENSIONS, Lexicon
from pege.words import segmenter


def text_coverage(texts: Iterable[str], lexicon: Lexicon, lang: str) -> dict[str, float]:
    """Words of running text, and the share of them the lexicon has: ``n_words``, ``covered`` in [0, 1]."""
    cut = segmenter(lang)
    n_words = n_covered = 0
    for text in texts:
        words = cut(text)
        n_words += len(words)
        n_covered += sum(w in lexicon for w in words)
    return {"n_words": n_words, "covered": n_covered / n_words if n_words else 0.0}


def token_coverage(texts: Iterable[str], table: TokenVad, tokenizer: Any) -> dict[str, float]:
    """Share of the tokens of running text by step, in [0, 1]; empty text gives zeros."""
    counts = np.zeros(len(table.step), dtype=np.int64)
    for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]:
        np.add.at(counts, np.asarray(ids, dtype=np.int64), 1)
    total = max(int(counts.sum()), 1)
    return {name: float(counts[table.step == step].sum() / total) for step, name in STEP_NAMES.items()}


def compare_lexicons(a: Lexicon, b: Lexicon) -> dict[str, dict[str, float | None]]:
    """Pearson r by dimension on the words both have, in all and by mark of ``a``.

    Returns:
        ``{"all" | "rated" | "inferred": {"n_words", "valence", "arousal"[, "dominance"]}}``; r is None below 3
        words, and where all values of a dimension are the same.
    """
    shared = [w for w in a.words if w in b.words]
    rows_a = np.array([a.words[w] for w in shared], dtype=np.int64)
    rows_b = np.array([b.words[w] for w in shared], dtype=np.int64)
    groups = {"all": np.ones(len(shared), dtype=bool)}
    if a.marks is not None:
        groups |= {str(m): a.marks[rows_a] == m for m in np.unique(a.marks)}
    dimensions = DIMENSIONS if a.dimensions == b.dimensions == "vad" else DIMENSIONS[:2]
    result: dict[str, dict[str, float | None]] = {}
    for group, chosen in groups.items():
        result[group] = {"n_words": float(chosen.sum())}
        for d, name in enumerate(dimensions):
            x, y = a.values[rows_a[chosen], d], b.values[rows_b[chosen], d]
            enough = len(x) > 2 and x.std() > 0 and y.std() > 0
            result[group][name] = float(np.corrcoef(x, y)[0, 1]) if enough else None
    return result
