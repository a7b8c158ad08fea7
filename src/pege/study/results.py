"""The results of a study: the table, paired tests, empathy before guidance, agreement, correlation with the scores.

Needs no web extra: it takes rows of ratings, whatever they come from.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pege.dialog import Dialog
from pege.metrics.interval import mean_interval, paired_p_value, sum_interval
from pege.study.agreement import N_RESAMPLES as N_AGREEMENT
from pege.study.agreement import agreement_table
from pege.study.design import Design
from pege.study.votes import RatingRow, agrees_with_others, dialog_means, judgements_of, votes_on_pairs, winner

SCORES = ("peg", "e", "pege")
Means = Mapping[str, Mapping[str, float]]  # system -> starter -> value


def study_results(
    design: Design,
    rows: Sequence[RatingRow],
    dialogs: Mapping[str, Dialog],
    *,
    seed: int = 0,
    n_resamples: int = 9_999,
) -> dict[str, Any]:
    """Give what ``pege study results --json`` prints (docs/study.md).

    Args:
        design: of the study.
        rows: ratings.
        dialogs: ``STARTER:SYSTEM`` -> dialog, for the automatic scores; where empty, there is no correlation.
        seed: of all resampling.
        n_resamples: of bootstrap and permutation; of the coefficients of agreement a fifth.
    """
    resampled: dict[str, Any] = {"seed": seed, "n_resamples": n_resamples}
    means = dialog_means(rows)
    asked = [m.name for m in design.metrics if m.name in means]
    found: dict[str, Any] = {
        "n_ratings": len(rows),
        "n_raters": len({r.rater for r in rows}),
        "table": {s: _system_row(means, asked, s, resampled) for s in design.systems},
        "tests": {metric: _tests(means[metric], list(design.systems), resampled) for metric in asked},
        "agreement": study_agreement(design, rows, seed=seed, n_resamples=min(n_resamples, N_AGREEMENT)),
        "raters": agrees_with_others(rows),
    }
    if {"guidance", "empathy"} <= means.keys():
        found["empathy_first"] = {
            s: empathy_first(means["guidance"].get(s, {}), means["empathy"].get(s, {}), **resampled)
            for s in design.systems
        }
    if design.comparison:
        found["comparison"] = _comparison(design, rows)
    if dialogs and asked:
        found["correlation"] = correlation(means, asked, dialogs, seed=seed, n_resamples=min(n_resamples, N_AGREEMENT))
    return found


def study_agreement(
    design: Design, rows: Sequence[RatingRow], *, seed: int = 0, n_resamples: int = 0
) -> dict[str, dict[str, Any]]:
    """The coefficients of each metric and question, at its level and over the values that can be given.

    Args:
        design: of the study.
        rows: ratings.
        seed: of the bootstrap.
        n_resamples: of the bootstrap; 0: no intervals.
    """
    n_values = {m.name: len(m.values) for m in design.metrics}
    if design.comparison:
        n_values |= {q.name: 2 + design.comparison.allow_tie for q in design.comparison.questions}
    level = {m.name: m.measure for m in design.metrics}
    found = agreement_table(judgements_of(rows), level=level, n_values=n_values, seed=seed, n_resamples=n_resamples)
    return {name: found[name] for name in n_values if name in found}


def _system_row(
    means: Mapping[str, Means], asked: Sequence[str], system: str, resampled: dict[str, Any]
) -> dict[str, Any]:
    """Metric -> mean over dialogs of the majority votes, with its bootstrap interval over dialogs."""
    row: dict[str, Any] = {}
    for metric in asked:
        values = np.array(list(means[metric].get(system, {}).values()))
        if len(values):
            ci = list(mean_interval(values, **resampled))
            row[metric] = {"mean": float(values.mean()), "ci": ci, "n_dialogs": len(values)}
    return row


def _tests(means: Means, systems: Sequence[str], resampled: dict[str, Any]) -> list[dict[str, Any]]:
    """Each pair of systems on the starters that both have: difference, interval, permutation test.

    ``q`` is p after Benjamini and Hochberg over the pairs of this metric.
    """
    from scipy.stats import false_discovery_control

    found: list[dict[str, Any]] = []
    for a, b in itertools.combinations([s for s in systems if s in means], 2):
        shared = sorted(means[a].keys() & means[b].keys())
        if not shared:
            continue
        x, y = (np.array([means[s][k] for k in shared]) for s in (a, b))
        found.append(
            {
                "a": a,
                "b": b,
                "n_pairs": len(shared),
                "difference": float((x - y).mean()),
                "ci": list(mean_interval(x - y, **resampled)),
                "p": paired_p_value(x, y, **resampled),
            }
        )
    adjusted: list[float] = false_discovery_control([t["p"] for t in found]).tolist() if found else []
    return [t | {"q": q} for t, q in zip(found, adjusted, strict=True)]


def empathy_first(
    guidance: Mapping[str, float], empathy: Mapping[str, float], *, seed: int = 0, n_resamples: int = 9_999
) -> dict[str, Any]:
    """Share of the dialogs whose guidance succeeds, by majority, that express empathy first; bootstrap over dialogs.

    Args:
        guidance: starter -> majority vote, 0, 0.5 (a tie) or 1.
        empathy: the same; 0 where the guidance fails.
        seed: of the bootstrap.
        n_resamples: of the bootstrap.

    Returns:
        ``share`` (None without a success), ``ci``, ``n_successes``.
    """
    shared = sorted(guidance.keys() & empathy.keys())
    rows = np.array([[round(2 * empathy[k]), round(2 * guidance[k])] for k in shared], dtype=np.int64).reshape(-1, 2)
    n_successes = rows[:, 1].sum() / 2
    if not n_successes:
        return {"share": None, "ci": None, "n_successes": 0.0}
    # a resample without a success says nothing of the share; taken as the share itself, which is rare and no pull
    share = float(rows[:, 0].sum() / rows[:, 1].sum())
    ci = sum_interval(rows, lambda sums: sums[0] / sums[1] if sums[1] else share, seed=seed, n_resamples=n_resamples)
    return {"share": share, "ci": list(ci), "n_successes": float(n_successes)}


def _comparison(design: Design, rows: Sequence[RatingRow]) -> dict[str, list[dict[str, Any]]]:
    """ACUTE-Eval: for each question and two systems, how many pairs of dialogs each wins, and the binomial test.

    One pair of dialogs counts once, by majority: votes of several raters on it are not independent. ``q`` is p after
    Benjamini and Hochberg over the systems compared.
    """
    from scipy.stats import binomtest, false_discovery_control

    found: dict[str, list[dict[str, Any]]] = {}
    questions = [q.name for q in (design.comparison.questions if design.comparison else ())]
    for question, compared in votes_on_pairs(rows, questions).items():
        found[question] = []
        for pair, votes in sorted(compared.items()):
            a, b = pair.split("/")
            won, said = Counter(winner(v) for v in votes), sum(votes, Counter())
            n = won[a] + won[b]
            test = binomtest(won[a], n) if n else None
            ci = test.proportion_ci(method="wilson") if test else None
            found[question].append(
                {
                    "a": a,
                    "b": b,
                    "wins_a": won[a],
                    "wins_b": won[b],
                    "ties": won["tie"],
                    "share_a": won[a] / n if n else None,
                    "ci": [float(ci.low), float(ci.high)] if ci else None,
                    "p": float(test.pvalue) if test else None,
                    "q": None,
                    "votes": {"a": said[a], "b": said[b], "tie": said["tie"]},
                }
            )
        tested = [c for c in found[question] if c["p"] is not None]
        adjusted = false_discovery_control([c["p"] for c in tested]).tolist() if tested else []
        for c, q in zip(tested, adjusted, strict=True):
            c["q"] = q
    return found


# ---- correlation with the automatic scores


def correlation(
    means: Mapping[str, Means], asked: Sequence[str], dialogs: Mapping[str, Dialog], *, seed: int, n_resamples: int
) -> dict[str, Any]:
    """Correlate what people say of a dialog with its PEG-, E- and PEGE-Score, over all systems' dialogs.

    The bootstrap draws starters, since the dialogs of one starter hang together.

    Returns:
        ``n_dialogs``, ``signature``, and score -> metric -> ``pearson``, ``spearman`` (None where one side does not
        vary) and their intervals.
    """
    from pege.lexicon import load_lexicon
    from pege.metrics import language_of, pege_signature, score_dialogs

    shown = [k for k in dialogs if all(_human(means, m, k) is not None for m in asked)]
    if len(shown) < 3 or len({dialogs[k].language for k in shown}) > 1:  # scores of two languages are not one scale
        return {"n_dialogs": len(shown)}
    language = language_of([dialogs[k] for k in shown], None)
    lexicon = load_lexicon(f"pege-{language}")
    scores = score_dialogs([dialogs[k] for k in shown], lexicon, language=language)
    columns = [[getattr(s, name) for s in scores] for name in SCORES]
    columns += [[_human(means, m, k) for k in shown] for m in asked]
    table = np.array(columns, dtype=np.float64)  # (scores and metrics, N)
    point = _correlations(table)
    starters = [k.rpartition(":")[0] for k in shown]
    members = [np.flatnonzero(np.array(starters) == s) for s in sorted(set(starters))]
    rng = np.random.default_rng(seed)
    drawn = [
        _correlations(table[:, np.concatenate([members[k] for k in rng.integers(len(members), size=len(members))])])
        for _ in range(n_resamples)
    ]
    found: dict[str, Any] = {"n_dialogs": len(shown), "signature": pege_signature(lexicon, language)}
    for i, score in enumerate(SCORES):
        found[score] = {}
        for j, metric in enumerate(asked):
            cell: dict[str, Any] = {"ci": {}}
            for kind in ("pearson", "spearman"):
                at = (i, len(SCORES) + j)
                values = np.array([d[kind][at] for d in drawn])
                values = values[~np.isnan(values)]
                is_known = not np.isnan(point[kind][at])
                cell[kind] = float(point[kind][at]) if is_known else None
                cell["ci"][kind] = np.quantile(values, [0.025, 0.975]).tolist() if is_known and len(values) else None
            found[score][metric] = cell
    return found


def _human(means: Mapping[str, Means], metric: str, key: str) -> float | None:
    starter, _, system = key.rpartition(":")
    return means[metric].get(system, {}).get(starter)


def _correlations(table: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    from scipy.stats import rankdata

    with np.errstate(invalid="ignore", divide="ignore"):  # a column without spread: NaN, told as null
        found = {"pearson": np.corrcoef(table), "spearman": np.corrcoef(rankdata(table, axis=1))}
    return {kind: np.asarray(r, dtype=np.float64) for kind, r in found.items()}
