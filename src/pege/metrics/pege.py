"""PEG-, E- and PEGE-Score (Eq. 7-9, design sec. 7)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pege.dialog import Dialog
from pege.lexicon import Lexicon
from pege.words import words_of_texts

Oov = Literal["skip", "neutral"]
Aggregate = Literal["mean", "sum"]
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class DialogScore:
    """Scores of one dialog: ``peg`` (Eq. 7), ``e`` (Eq. 8), ``pege`` = peg + e (Eq. 9)."""

    id: str
    peg: float
    e: float
    pege: float


def score_dialogs(
    dialogs: Iterable[Dialog],
    lexicon: Lexicon,
    *,
    language: str | None = None,
    oov: Oov = "skip",
    agg: Aggregate = "mean",
) -> list[DialogScore]:
    """Score dialogs, in their order. One without an agent's utterance is left out (`is_scorable`).

    Args:
        dialogs: the dialogs.
        lexicon: gives o(word); its mean is the reference value.
        language: of all of them; without it each dialog's own.
        oov: what a word counts that the lexicon lacks: nothing, or the reference value.
        agg: over the utterances of a half: their mean, or their sum.
    """
    scorable = [d for d in dialogs if is_scorable(d)]
    languages = [language or d.language for d in scorable]
    found: dict[int, DialogScore] = {}
    for lang in dict.fromkeys(languages):
        places = [k for k, other in enumerate(languages) if other == lang]
        found |= zip(places, _score([scorable[k] for k in places], lexicon, lang, oov, agg), strict=True)
    return [found[k] for k in range(len(scorable))]


def _score(
    dialogs: Sequence[Dialog], lexicon: Lexicon, language: str, oov: Oov, agg: Aggregate
) -> Iterator[DialogScore]:
    """Score dialogs of one language, all their utterances at once."""
    parts = [(d.user_last_half, d.user_utterances[:1], d.agent_first_half) for d in dialogs]
    texts = [t for three in parts for part in three for t in part]
    vads = utterance_vads(texts, lexicon, language, oov=oov)  # (N, 3)
    lengths = np.array([[len(part) for part in three] for three in parts])  # (D, 3)
    counted = ~np.isnan(vads[:, 0])
    starts = np.concatenate(([0], np.cumsum(lengths)[:-1]))
    totals = np.add.reduceat(np.where(counted[:, None], vads, 0.0), starts, axis=0)  # (3 D, 3)
    n = np.add.reduceat(counted.astype(np.int64), starts)[:, None]
    totals, n = np.where(n > 0, totals, lexicon.mean), np.maximum(n, 1)
    whole = (totals / n if agg == "mean" else totals).reshape(-1, 3, 3)  # (D, part, VAD)
    n_ends = n.reshape(-1, 3)[:, :1] if agg == "sum" else 1
    peg = (whole[:, 0] - n_ends * lexicon.mean).sum(axis=1)
    e = -np.abs(whole[:, 1] - whole[:, 2]).sum(axis=1)
    for dialog, a, b in zip(dialogs, peg.tolist(), e.tolist(), strict=True):
        yield DialogScore(dialog.id, a, b, a + b)


def is_scorable(dialog: Dialog) -> bool:
    """Whether the agent speaks at all; the reason of a refusal is ``no-response``."""
    return len(dialog.messages) > 1


def utterance_vad(text: str, lexicon: Lexicon, cut: Callable[[str], list[str]], *, oov: Oov = "skip") -> Vector | None:
    """Mean VAD of an utterance's words, (3,); None where none of them counts."""
    words = cut(text)
    rows = [row for w in words if (row := lexicon.words.get(w)) is not None]
    n_lacking = len(words) - len(rows) if oov == "neutral" else 0
    n = len(rows) + n_lacking
    if not n:
        return None
    total = lexicon.values[rows].sum(axis=0) + n_lacking * lexicon.mean
    return np.asarray(total / n, dtype=np.float64)


def utterance_vads(texts: Sequence[str], lexicon: Lexicon, language: str, *, oov: Oov = "skip") -> Vector:
    """Mean VAD of the words of many utterances of one language, (N, 3): what `utterance_vad` gives, NaN for None."""
    words, n_words = words_of_texts(texts, language)
    rows = pc.index_in(words, value_set=pa.array(list(lexicon.words), pa.string()))
    is_known = rows.is_valid().to_numpy(zero_copy_only=False)
    order = np.fromiter(lexicon.words.values(), np.int64, len(lexicon.words))
    owners = np.repeat(np.arange(len(texts)), n_words)[is_known]
    values = lexicon.values[order[rows.drop_null().to_numpy()]]  # (W, 3)
    columns = [np.bincount(owners, values[:, k], len(texts)) for k in range(3)]
    totals = np.stack(columns, axis=1).astype(np.float64)  # without any word numpy counts in integers
    n = np.bincount(owners, minlength=len(texts))
    if oov == "neutral":
        totals += (n_words - n)[:, None] * lexicon.mean
        n = n_words
    return np.where(n[:, None] > 0, totals / np.maximum(n, 1)[:, None], np.nan)
