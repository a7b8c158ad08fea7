"""BLEU by sacreBLEU, and Distinct-n over the agent's words: of the corpus, with intervals, and of each dialog."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pege.dialog import Dialog
from pege.errors import InputError
from pege.metrics.interval import N_RESAMPLES, jackknife_interval, sum_interval
from pege.metrics.signature import distinct_signature
from pege.words import segmenter

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU

ORDERS = (1, 2)  # of the paper's BLEU-1/2 and Distinct-1/2
Columns = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Bleu:
    """BLEU-n in [0, 100] with sacreBLEU's signature."""

    score: float
    signature: str


def distinct(dialogs: Sequence[Dialog], n: int, *, language: str | None = None) -> float:
    """Distinct-n: different n-grams over all n-grams of the agent's utterances, in [0, 1]; 0 where there is none."""
    grams = Counter(g for d in dialogs for g in _n_grams(d, n, language))
    return _share(len(grams), grams.total())


def distinct_table(
    dialogs: Sequence[Dialog], *, language: str, seed: int = 0, n_resamples: int = N_RESAMPLES
) -> dict[str, Any]:
    """Distinct-1 and Distinct-2 of the corpus, with intervals.

    A dialog drawn twice brings nothing new, so a plain bootstrap would put every resample below the score. Dialogs are
    left out one by one instead, and the bootstrap is over what each adds (docs/scores.md).

    Returns:
        ``{"signature", "distinct_1", "distinct_2", "ci"}``.
    """
    table: dict[str, Any] = {"signature": distinct_signature(language)}
    intervals = {}
    for n in ORDERS:
        counts = [Counter(_n_grams(d, n, language)) for d in dialogs]
        n_dialogs_with = Counter(g for c in counts for g in c)
        n_all = sum(c.total() for c in counts)
        score = _share(len(n_dialogs_with), n_all)
        n_own = [sum(n_dialogs_with[g] == 1 for g in c) for c in counts]
        without = np.array(
            [_share(len(n_dialogs_with) - own, n_all - c.total()) for own, c in zip(n_own, counts, strict=True)]
        )
        name = f"distinct_{n}"
        table[name] = score
        intervals[name] = list(jackknife_interval(score, without, seed=seed, n_resamples=n_resamples))
    return table | {"ci": intervals}


def distinct_columns(dialogs: Sequence[Dialog], *, language: str) -> Columns:
    """Distinct-1 and Distinct-2 of each dialog by itself, (N,) each."""
    return {f"distinct_{n}": np.array([distinct([d], n, language=language) for d in dialogs]) for n in ORDERS}


def _n_grams(dialog: Dialog, n: int, language: str | None) -> Iterator[tuple[str, ...]]:
    cut = segmenter(language or dialog.language)
    for text in dialog.agent_utterances:
        words = cut(text)
        yield from zip(*(words[k:] for k in range(n)), strict=False)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def bleu(responses: Sequence[str], references: Sequence[str], n: int, *, language: str) -> Bleu:
    """Corpus BLEU-n of responses against one reference each.

    Raises:
        InputError: another number of references.
    """
    if len(responses) != len(references):
        raise InputError(f"{len(responses)} responses and {len(references)} references", fix="give one for each")
    metric = _metric(n, language)
    score = metric.corpus_score(list(responses), [list(references)]).score
    return Bleu(float(score), str(metric.get_signature()))


def bleu_table(
    dialogs: Sequence[Dialog],
    references: Sequence[Dialog],
    *,
    language: str,
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
) -> dict[str, Any]:
    """BLEU-1 and BLEU-2 of the agent's utterances against those of the dialogs with the same ids, with intervals.

    Returns:
        ``{"n_responses", "bleu_1", "bleu_2", "signature_1", "signature_2", "ci"}``.

    Raises:
        InputError: a dialog without its reference, or with another number of responses; an id given twice.
    """
    pairs = _pair_responses(dialogs, references)
    said, meant = ([text for pair in pairs for text in pair[side]] for side in (0, 1))
    table: dict[str, Any] = {"n_responses": len(said)}
    intervals = {}
    for n in ORDERS:
        found = bleu(said, meant, n, language=language)
        metric = _metric(n, language)
        counts = np.array([_bleu_counts(metric, *pair) for pair in pairs])  # (N, 2 + 2n)
        name = f"bleu_{n}"
        table |= {name: found.score, f"signature_{n}": found.signature}
        intervals[name] = list(sum_interval(counts, _bleu_of, seed=seed, n_resamples=n_resamples))
    return table | {"ci": intervals}


def bleu_columns(dialogs: Sequence[Dialog], references: Sequence[Dialog], *, language: str) -> Columns:
    """BLEU-1 and BLEU-2 of each dialog by itself, (N,) each.

    Raises:
        InputError: as for `bleu_table`.
    """
    pairs = _pair_responses(dialogs, references)
    return {
        f"bleu_{n}": np.array([bleu(said, meant, n, language=language).score for said, meant in pairs]) for n in ORDERS
    }


def _pair_responses(dialogs: Sequence[Dialog], references: Sequence[Dialog]) -> list[tuple[list[str], list[str]]]:
    by_id = {d.id: d for d in references}
    twice = [i for side in (dialogs, references) for i, k in Counter(d.id for d in side).items() if k > 1]
    if twice:
        raise InputError("is the id of several dialogs", where=twice[0], fix="BLEU pairs dialogs by id")
    pairs = []
    for dialog in dialogs:
        reference = by_id.get(dialog.id)
        if reference is None:
            raise InputError("has no reference", where=dialog.id, fix="give references with the same ids")
        if len(reference.agent_utterances) != len(dialog.agent_utterances):
            raise InputError(
                f"has {len(dialog.agent_utterances)} responses, its reference {len(reference.agent_utterances)}",
                where=dialog.id,
                fix="give a reference for each response",
            )
        pairs.append((dialog.agent_utterances, reference.agent_utterances))
    return pairs


def _metric(n: int, language: str) -> BLEU:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(max_ngram_order=n, tokenize="zh" if language == "zh" else "13a")


def _bleu_counts(metric: BLEU, responses: Sequence[str], references: Sequence[str]) -> list[int]:
    """What BLEU needs of a dialog: length, length of the references, n-grams met and all, by order."""
    found = metric.corpus_score(list(responses), [list(references)])
    return [found.sys_len, found.ref_len, *found.counts, *found.totals]


def _bleu_of(counts: NDArray[np.int64]) -> float:
    from sacrebleu.metrics.bleu import BLEU

    length, reference_length, *n_grams = counts.tolist()
    n = len(n_grams) // 2
    found = BLEU.compute_bleu(
        n_grams[:n], n_grams[n:], length, reference_length, smooth_method="exp", max_ngram_order=n
    )
    return float(found.score)
