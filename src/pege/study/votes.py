"""Ratings as rows, and what several raters together say of one thing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from pege.study.agreement import Judgement, as_number


class RatingRow(BaseModel):
    """One rating with where it comes from: a row of an export (docs/study.md).

    Attributes:
        item: what was rated: ``STARTER:SYSTEM``, ``STARTER:SYSTEM#PLACE`` for an utterance, ``STARTER:A:B`` for a pair.
        rater: name, nothing about the person.
        metric: or question of a comparison.
        value: a number; for a pair the name of the system that won, or ``tie``.
        system: of the dialog; both of a pair, with a slash between them.
        starter: of the dialog.
        dialog: item that the rater saw.
        utterance: place among the agent's utterances, from 1; 0 for a whole dialog.
        is_asked: False where the metric's ``otherwise`` stands, e.g. empathy without guidance.
        seconds: that the rater worked on the whole item.
        given_at: UTC.
    """

    model_config = ConfigDict(frozen=True)
    item: str
    rater: str
    metric: str
    value: str
    system: str
    starter: str
    dialog: str
    utterance: int
    is_asked: bool
    seconds: float
    given_at: str


def judgements_of(rows: Iterable[RatingRow]) -> list[Judgement]:
    """Rows as `pege.study.agreement` takes them; of a pair the values are A, B and tie, whatever the systems' names."""
    found = []
    for r in rows:
        names = r.system.split("/")
        value = "AB"[names.index(r.value)] if len(names) == 2 and r.value in names else r.value
        found.append(Judgement(item=r.item, rater=r.rater, metric=r.metric, value=value))
    return found


def majority(values: Sequence[float]) -> float:
    """What most raters say: the most frequent value; of several that are, the mean (a tie of no and yes is 0.5).

    For a scale of more than two values the median is taken, which is the majority where there is one.
    """
    if len(set(values)) > 2 or not set(values) <= {0.0, 1.0}:
        return float(np.median(values))
    counts = Counter(values)
    most = max(counts.values())
    return float(np.mean([v for v, n in counts.items() if n == most]))


def dialog_means(rows: Iterable[RatingRow]) -> dict[str, dict[str, dict[str, float]]]:
    """Metric -> system -> starter -> mean over the rated things of the dialog of what most raters say of each."""
    given: dict[tuple[str, str, str, str], list[float]] = defaultdict(list)
    for row in rows:
        number = as_number(row.value)
        if number is not None:
            given[row.metric, row.system, row.starter, row.item].append(number)
    votes: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for (metric, system, starter, _), values in given.items():
        votes[metric, system, starter].append(majority(values))
    found: dict[str, dict[str, dict[str, float]]] = {}
    for (metric, system, starter), each in votes.items():
        found.setdefault(metric, {}).setdefault(system, {})[starter] = float(np.mean(each))
    return found


def agrees_with_others(rows: Iterable[RatingRow]) -> dict[str, float]:
    """Rater -> share of their ratings that are the majority of the others', where the others have one."""
    by_thing: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for row in rows:
        by_thing[row.item, row.metric][row.rater] = row.value
    hits: dict[str, list[bool]] = defaultdict(list)
    for said in by_thing.values():
        for rater, value in said.items():
            most = _most([v for other, v in said.items() if other != rater])
            if most is not None:
                hits[rater].append(value == most)
    return {rater: float(np.mean(each)) for rater, each in hits.items()}


def _most(values: Sequence[str]) -> str | None:
    ranked = Counter(values).most_common(2)
    if not ranked or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]


def votes_on_pairs(rows: Iterable[RatingRow], questions: Iterable[str]) -> dict[str, dict[str, list[Counter[str]]]]:
    """Question -> ``A/B`` -> for each pair of dialogs, how often each system, or ``tie``, was named."""
    found: dict[str, dict[str, dict[str, Counter[str]]]] = {q: {} for q in questions}
    for row in rows:
        if row.metric in found:
            found[row.metric].setdefault(row.system, {}).setdefault(row.item, Counter())[row.value] += 1
    return {q: {pair: list(items.values()) for pair, items in pairs.items()} for q, pairs in found.items()}


def winner(votes: Mapping[str, int]) -> str:
    """What is named most often of a pair of dialogs; ``tie`` where two are named alike."""
    return _most(list(Counter(votes).elements())) or "tie"
