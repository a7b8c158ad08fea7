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


def bleu_table(dialogs: Sequence[Dialog], references: Sequence[Dialog], *, language: str) -> dict[str, object]:
    """BLEU-1 and BLEU-2 of the agent's utterances against those of the dialogs with the same ids.

    Returns:
        ``{"bleu_1", "bleu_2", "signature_1", "signature_2", "n_responses"}``.

    Raises:
        InputError: a dialog without its reference, or with another number of responses.
    """
    by_id = {d.id: d for d in references}
    said: list[str] = []
    meant: list[str] = []
    for dialog in dialogs:
        reference = by_id.get(dialog.id)
        if reference is None or len(reference.agent_utterances) != len(dialog.agent_utterances):
            raise InputError(
                "has no reference with as many responses", where=dialog.id, fix="give references with the same ids"
            )
        said += dialog.agent_utterances
        meant += reference.agent_utterances
    table: dict[str, object] = {"n_responses": len(said)}
    for n in (1, 2):
        found = bleu(said, meant, n, language=language)
        table |= {f"bleu_{n}": found.score, f"signature_{n}": found.signature}
    return table
