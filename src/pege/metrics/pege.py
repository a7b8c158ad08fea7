"""PEG-, E- and PEGE-Score (Eq. 7-9, design sec. 7)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pege.dialog import Dialog
from pege.lexicon import Lexicon
from pege.words import segmenter

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
    scorer = _Scorer(lexicon, oov, agg)
    return [scorer.score(d, segmenter(language or d.language)) for d in dialogs if is_scorable(d)]


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


@dataclass(frozen=True)
class _Scorer:
    lexicon: Lexicon
    oov: Oov
    agg: Aggregate

    def score(self, dialog: Dialog, cut: Callable[[str], list[str]]) -> DialogScore:
        reference = self.lexicon.mean
        user_end = self._vads(dialog.user_last_half, cut) - reference  # (K, 3)
        peg = float((user_end.mean(axis=0) if self.agg == "mean" else user_end.sum(axis=0)).sum())
        first = self._vads(dialog.user_utterances[:1], cut)[0]  # (3,)
        agent = self._vads(dialog.agent_first_half, cut)  # (K, 3)
        e = -float(np.abs(first - (agent.mean(axis=0) if self.agg == "mean" else agent.sum(axis=0))).sum())
        return DialogScore(dialog.id, peg, e, peg + e)

    def _vads(self, texts: Sequence[str], cut: Callable[[str], list[str]]) -> Vector:
        """(K, 3) of the utterances with a word that counts; the reference value, (1, 3), where there is none."""
        found = [v for t in texts if (v := utterance_vad(t, self.lexicon, cut, oov=self.oov)) is not None]
        return np.array(found) if found else self.lexicon.mean[None]
