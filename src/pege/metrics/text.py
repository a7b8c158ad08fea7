"""BLEU by sacreBLEU, and Distinct-n over the agent's words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pege.dialog import Dialog
from pege.errors import InputError
from pege.words import segmenter


@dataclass(frozen=True)
class Bleu:
    """BLEU-n in [0, 100] with sacreBLEU's signature."""

    score: float
    signature: str


def distinct(dialogs: Sequence[Dialog], n: int, *, language: str | None = None) -> float:
    """Distinct-n: different n-grams over all n-grams of the agent's utterances, in [0, 1]; 0 where there is none."""
    seen: set[tuple[str, ...]] = set()
    n_all = 0
    for dialog in dialogs:
        cut = segmenter(language or dialog.language)
        for text in dialog.agent_utterances:
            words = cut(text)
            grams = list(zip(*(words[k:] for k in range(n)), strict=False))
            seen.update(grams)
            n_all += len(grams)
    return len(seen) / n_all if n_all else 0.0


def bleu(responses: Sequence[str], references: Sequence[str], n: int, *, language: str) -> Bleu:
    """Corpus BLEU-n of responses against one reference each.

    Raises:
        InputError: another number of references.
    """
    from sacrebleu.metrics.bleu import BLEU

    if len(responses) != len(references):
        raise InputError(f"{len(responses)} responses and {len(references)} references", fix="give one for each")
    metric = BLEU(max_ngram_order=n, tokenize="zh" if language == "zh" else "13a")
    score = metric.corpus_score(list(responses), [list(references)]).score
    return Bleu(float(score), str(metric.get_signature()))
