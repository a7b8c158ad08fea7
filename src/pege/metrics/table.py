"""All scores of one file of dialogs, and two files against each other: what `pege score` and `pege compare` print."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pege.dialog import Dialog
from pege.errors import InputError
from pege.lexicon import Lexicon, load_lexicon
from pege.metrics.interval import N_RESAMPLES, mean_interval, paired_p_value
from pege.metrics.pege import Aggregate, DialogScore, Oov, is_scorable, score_dialogs
from pege.metrics.ratings import Rating, rating_columns
from pege.metrics.signature import distinct_signature, pege_signature
from pege.metrics.text import bleu_table, distinct

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


def score_table(dialogs: Sequence[Dialog], options: Options) -> tuple[dict[str, Any], list[DialogScore]]:
    """Give the object that ``pege score --json`` prints (docs/scores.md), and the scores of each dialog.

    Raises:
        InputError: no dialog can be scored.
    """
    scorable = [d for d in dialogs if is_scorable(d)]
    if not scorable:
        raise InputError("no dialog has a response", fix="see docs/rows.md")
    language = language_of(scorable, options.language)
    lexicon = options.lexicon or load_lexicon(f"pege-{language}")
    scores = score_dialogs(scorable, lexicon, language=language, oov=options.oov, agg=options.agg)
    table: dict[str, Any] = {
        "signature": pege_signature(lexicon, language, oov=options.oov, agg=options.agg),
        "n_dialogs": len(scores),
        **_means(columns(scores), options),
        "quarantined": {"no-response": len(dialogs) - len(scorable)},
        "distinct": {
            "signature": distinct_signature(language),
            **{f"distinct_{n}": distinct(scorable, n, language=language) for n in (1, 2)},
        },
        "companions": {},
    }
    if options.references is not None:
        table["bleu"] = bleu_table(scorable, options.references, language=language)
    for name, values in companions(scorable, options, language).items():
        table["companions"][name] = values["table"]
    return table, scores


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
    if options.ratings:
        values = rating_columns(options.ratings, [d.id for d in dialogs])
        n_raters = len({r.rater for r in options.ratings})
        found["ratings"] = {"table": {**_means(values, options), "n_raters": n_raters}, "values": values}
    return found


def compare_table(a: Sequence[Dialog], b: Sequence[Dialog], options: Options) -> dict[str, Any]:
    """Give the object that ``pege compare --json`` prints: differences a - b over pairs, intervals, p-values.

    Raises:
        InputError: the dialogs do not pair up.
    """
    a, b = pair_dialogs(a, b)
    language = language_of([*a, *b], options.language)
    lexicon = options.lexicon or load_lexicon(f"pege-{language}")
    both = []
    for dialogs in (a, b):
        scores = score_dialogs(dialogs, lexicon, language=language, oov=options.oov, agg=options.agg)
        values = columns(scores)
        for name, companion in companions(dialogs, options, language).items():
            values |= {f"{name}.{k}": v for k, v in companion["values"].items()}
        both.append(values)
    table: dict[str, Any] = {
        "signature": pege_signature(lexicon, language, oov=options.oov, agg=options.agg)
        + f"|test:paired-permutation|n:{options.n_resamples}|seed:{options.seed}",
        "n_pairs": len(a),
        "scores": {},
    }
    for name in both[0]:
        x, y = both[0][name], both[1][name]
        low, high = mean_interval(x - y, seed=options.seed, n_resamples=options.n_resamples)
        table["scores"][name] = {
            "a": float(x.mean()),
            "b": float(y.mean()),
            "difference": float((x - y).mean()),
            "ci": [low, high],
            "p": paired_p_value(x, y, seed=options.seed, n_resamples=options.n_resamples),
        }
    return table


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
