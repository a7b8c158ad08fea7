"""All scores of one file of dialogs, and two files against each other: what `pege score` and `pege compare` print."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pege.dialog import Dialog
from pege.errors import InputError
from pege.lexicon import Lexicon, load_lexicon
from pege.metrics.interval import N_RESAMPLES, mean_interval, paired_p_value, sum_interval
from pege.metrics.judges import Judge
from pege.metrics.pege import Aggregate, DialogScore, Oov, is_scorable, score_dialogs
from pege.metrics.ratings import Rating, check_rated, rating_columns
from pege.metrics.signature import pege_signature, ratings_signature
from pege.metrics.text import bleu_columns, bleu_table, distinct_columns, distinct_table

NAMES = ("peg", "e", "pege")


@dataclass(frozen=True)
class Options:
    """What scores are computed with. ``lexicon`` None is ours of the language."""

    lexicon: Lexicon | None = None
    language: str | None = None
    oov: Oov = "skip"
    agg: Aggregate = "mean"
    unseen_lexicon: Lexicon | None = None
    classifier: Path | str | None = None
    references: Sequence[Dialog] | None = None
    ratings: Sequence[Rating] | None = None
    judges: Sequence[Judge] = ()
    seed: int = 0
    n_resamples: int = N_RESAMPLES


def language_of(dialogs: Sequence[Dialog], language: str | None) -> str:
    """Give the one language of all dialogs.

    Raises:
        InputError: there are several.
    """
    if language:
        return language
    found = sorted({d.language for d in dialogs})
    if len(found) > 1:
        raise InputError(f"dialogs in {' and '.join(found)}", fix="name one: --language en; score them apart")
    return found[0] if found else "en"


def score_table(dialogs: Sequence[Dialog], options: Options) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Give the object that ``pege score --json`` prints (docs/scores.md), and the scores of each dialog with its id.

    Values of companions stand in a dialog's row as ``COMPANION.NAME``.

    Raises:
        InputError: no dialog can be scored; ratings or references of other dialogs.
    """
    scorable = _scorable(dialogs)
    if options.ratings is not None:
        check_rated(options.ratings, (d.id for d in dialogs))
    language = language_of(scorable, options.language)
    lexicon = options.lexicon or load_lexicon(f"pege-{language}")
    scores = score_dialogs(scorable, lexicon, language=language, oov=options.oov, agg=options.agg)
    table: dict[str, Any] = {
        "signature": pege_signature(lexicon, language, oov=options.oov, agg=options.agg),
        "n_dialogs": len(scores),
        **_means(columns(scores), options),
        "quarantined": {"no-response": len(dialogs) - len(scorable)},
        "distinct": distinct_table(scorable, language=language, seed=options.seed, n_resamples=options.n_resamples),
        "companions": {},
    }
    if options.references is not None:
        table["bleu"] = bleu_table(
            scorable, options.references, language=language, seed=options.seed, n_resamples=options.n_resamples
        )
    by_dialog = columns(scores)
    for name, found in companions(scorable, options, language).items():
        table["companions"][name] = found["table"]
        by_dialog |= {f"{name}.{k}": v for k, v in found["values"].items()}
    return table, [{"id": s.id} | {n: float(v[k]) for n, v in by_dialog.items()} for k, s in enumerate(scores)]


def text_rows(dialogs: Sequence[Dialog], options: Options) -> list[dict[str, Any]]:
    """Give Distinct-1/2, and BLEU-1/2 where there are references, of each dialog by itself, with its id.

    Raises:
        InputError: no dialog can be scored; references of other dialogs.
    """
    scorable = _scorable(dialogs)
    language = language_of(scorable, options.language)
    found = distinct_columns(scorable, language=language)
    if options.references is not None:
        found |= bleu_columns(scorable, options.references, language=language)
    return [{"id": d.id} | {n: float(v[k]) for n, v in found.items()} for k, d in enumerate(scorable)]


def _scorable(dialogs: Sequence[Dialog]) -> list[Dialog]:
    scorable = [d for d in dialogs if is_scorable(d)]
    if not scorable:
        raise InputError("no dialog has a response", fix="see docs/rows.md")
    return scorable


def columns(scores: Sequence[DialogScore]) -> dict[str, NDArray[np.float64]]:
    """Per-dialog values by name, (N,) each."""
    return {n: np.array([getattr(s, n) for s in scores]) for n in NAMES}


def _means(values: Mapping[str, NDArray[np.float64]], options: Options) -> dict[str, Any]:
    means: dict[str, Any] = {n: float(v.mean()) for n, v in values.items()}
    means["ci"] = {
        n: list(mean_interval(v, seed=options.seed, n_resamples=options.n_resamples)) for n, v in values.items()
    }
    return means


def companions(dialogs: Sequence[Dialog], options: Options, language: str) -> dict[str, dict[str, Any]]:
    """The honest companions that were asked for: name -> {"table": printable, "values": per-dialog columns}."""
    found: dict[str, dict[str, Any]] = {}
    if options.unseen_lexicon is not None:
        scores = score_dialogs(dialogs, options.unseen_lexicon, language=language, oov=options.oov, agg=options.agg)
        values = columns(scores)
        signature = pege_signature(options.unseen_lexicon, language, oov=options.oov, agg=options.agg)
        found["unseen_lexicon"] = {"table": {"signature": signature, **_means(values, options)}, "values": values}
    if options.classifier is not None:
        from pege.metrics.classifier import positive_end

        end = positive_end(dialogs, options.classifier)
        values = {"p_positive_end": end.p_positive}
        table = {"signature": end.signature, **_means(values, options), "share": end.share}
        found["classifier"] = {"table": table, "values": values}
    if options.ratings is not None:
        values = rating_columns(options.ratings, [d.id for d in dialogs])
        table = {
            "signature": ratings_signature(options.ratings),
            **_means(values, options),
            "n_raters": len({r.rater for r in options.ratings}),
        }
        found["ratings"] = {"table": table, "values": values}
    for judge in options.judges:
        values = judge.measure(dialogs, language)
        table = {"signature": judge.signature(language), **_means(values, options)}
        for name, parts in judge.ratios.items():
            counts = np.stack([values[p] for p in parts], axis=1).astype(np.int64)  # (N, 2)
            table[name] = _ratio(counts.sum(axis=0))
            table["ci"][name] = list(sum_interval(counts, _ratio, seed=options.seed, n_resamples=options.n_resamples))
        found[judge.name] = {"table": table, "values": values}
    return found


def _ratio(sums: NDArray[np.int64]) -> float:
    """The first over the second; 0 where there is nothing."""
    return float(sums[0] / sums[1]) if sums[1] else 0.0


def compare_table(
    a: Sequence[Dialog],
    b: Sequence[Dialog],
    options: Options,
    *,
    ratings: tuple[Sequence[Rating], Sequence[Rating]] | None = None,
) -> dict[str, Any]:
    """Give the object that ``pege compare --json`` prints: differences a - b over pairs, intervals, p-values.

    Args:
        a: dialogs of the first system.
        b: of the second, with the same ids or the same starters.
        options: for both; its ``ratings`` and ``references`` are not used.
        ratings: of the first system and of the second, on the same scales.

    Raises:
        InputError: the dialogs do not pair up, nor do the scales; ratings of other dialogs.
    """
    if ratings:
        for side, dialogs in zip(ratings, (a, b), strict=True):
            check_rated(side, (d.id for d in dialogs))
    a, b = pair_dialogs(a, b)
    language = language_of([*a, *b], options.language)
    lexicon = options.lexicon or load_lexicon(f"pege-{language}")
    both, signatures = [], []
    for dialogs, rated in zip((a, b), ratings or (None, None), strict=True):
        scores = score_dialogs(dialogs, lexicon, language=language, oov=options.oov, agg=options.agg)
        values = columns(scores)
        found = companions(dialogs, replace(options, ratings=rated), language)
        for name, companion in found.items():
            values |= {f"{name}.{k}": v for k, v in companion["values"].items()}
        both.append(values)
        signatures.append({name: companion["table"]["signature"] for name, companion in found.items()})
    if both[0].keys() != both[1].keys():
        other = sorted(k.removeprefix("ratings.") for k in both[0].keys() ^ both[1].keys())
        raise InputError(f"only one side is rated on {', '.join(other)}", fix="give ratings on the same scales")
    return {
        "signature": pege_signature(lexicon, language, oov=options.oov, agg=options.agg)
        + f"|test:paired-permutation|n:{options.n_resamples}|seed:{options.seed}",
        "n_pairs": len(a),
        "scores": {name: _difference(both[0][name], both[1][name], options) for name in both[0]},
        "companions": {
            name: {side: s[name] for side, s in zip("ab", signatures, strict=True)} for name in signatures[0]
        },
    }


def _difference(x: NDArray[np.float64], y: NDArray[np.float64], options: Options) -> dict[str, Any]:
    resampled: dict[str, Any] = {"seed": options.seed, "n_resamples": options.n_resamples}
    return {
        "a": float(x.mean()),
        "b": float(y.mean()),
        "difference": float((x - y).mean()),
        "ci": list(mean_interval(x - y, **resampled)),
        "p": paired_p_value(x, y, **resampled),
    }


def pair_dialogs(a: Sequence[Dialog], b: Sequence[Dialog]) -> tuple[list[Dialog], list[Dialog]]:
    """Put the dialogs of two systems side by side, by id, else by starter; only pairs that can be scored.

    Raises:
        InputError: a key that occurs twice on a side, or no pairs.
    """
    keys: tuple[Callable[[Dialog], str], ...] = (lambda d: d.id, lambda d: d.texts[0])
    for key in keys:
        left, right = ({key(d): d for d in side} for side in (a, b))
        if len(left) == len(a) and len(right) == len(b) and left.keys() == right.keys():
            shared = [k for k in left if is_scorable(left[k]) and is_scorable(right[k])]
            if shared:
                return [left[k] for k in shared], [right[k] for k in shared]
    raise InputError(
        f"{len(a)} and {len(b)} dialogs do not pair up", fix="both files need the same ids, or the same starters"
    )
