"""How far raters agree: Fleiss' kappa, Krippendorff's alpha, Gwet's AC1, with intervals, from any CSV of ratings.

Needs no web extra. Fleiss' kappa with missing ratings and AC1 are written out here: statsmodels' kappa wants the same
number of ratings for each item, and the one package with AC1 cannot be installed beside a current scipy.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from pege.csvfile import CsvRows, read_csv
from pege.errors import InputError
from pege.io import why_invalid

Level = Literal["nominal", "ordinal", "interval", "ratio"]
Name = Annotated[str, StringConstraints(min_length=1)]

N_RESAMPLES = 1_999  # each draws all items and asks three coefficients: seconds, not minutes
COLUMNS = ("item", "rater", "metric", "value")
_ALSO = {"item": "id", "metric": "scale", "value": "rating"}  # the columns of `pege score --ratings`
_MISSING = frozenset({"", "na", "nan"})  # what spreadsheets, pandas and R write for no rating
_FIX = "give the columns item,rater,metric,value (docs/study.md)"


class Judgement(BaseModel):
    """One rating: what a rater said of an item on a metric. ``value`` is a number or a label, as text."""

    model_config = ConfigDict(frozen=True)
    item: Name
    rater: Name
    metric: Name
    value: Name


def read_judgements(path: Path | str) -> list[Judgement]:
    """Read a CSV with the columns ``item, rater, metric, value``, or ``id, rater, scale, rating``.

    Other columns are left aside. A row whose value is empty, NA or NaN is no rating and is passed over.

    Raises:
        InputError: no such file, no ratings in it, a missing column, an empty name, an infinite value, or two ratings
            by a rater for one thing.
    """
    return read_csv(path, _read_rows, holds="ratings", fix=_FIX)


def _read_rows(rows: CsvRows) -> list[Judgement]:
    names = {c: c if c in rows.header else _ALSO.get(c, c) for c in COLUMNS}
    missing = [c for c, name in names.items() if name not in rows.header]
    if missing and rows.header:
        raise InputError(f"lacks the column {' and '.join(missing)}", where=f"{rows.path}:1", fix=_FIX)
    found: dict[tuple[str, str, str], Judgement] = {}
    for line, row in rows:
        where = f"{rows.path}:{line}"
        given = {c: row[name].strip() for c, name in names.items()}
        if given["value"].lower() in _MISSING and given["item"]:
            continue
        try:
            judgement = Judgement.model_validate(given)
        except ValidationError as e:
            raise InputError(why_invalid(e), where=where, fix=_FIX) from e
        number = as_number(judgement.value)
        if number is not None and not math.isfinite(number):
            raise InputError(f"value: {judgement.value!r} is no finite number", where=where, fix=_FIX)
        key = (judgement.item, judgement.rater, judgement.metric)
        if key in found:
            raise InputError(
                f"rater {judgement.rater!r} rates {judgement.item!r} twice on {judgement.metric!r}",
                where=where,
                fix="keep one of the lines",
            )
        found[key] = judgement
    return list(found.values())


def as_number(value: str) -> float | None:
    """Give a value as a number, None where it is a label."""
    try:
        return float(value)
    except ValueError:
        return None


# ---- counts: (N items, Q values), how many raters gave an item a value


def count_values(judgements: Sequence[Judgement]) -> tuple[NDArray[np.int64], list[float | str]]:
    """Count the ratings of one metric.

    Returns:
        Counts (N, Q) with the items in the order of their names, and the Q values that occur, in order: as numbers
        where all are numbers (``1`` and ``1.0`` are one value), else as labels.
    """
    numbers = [as_number(j.value) for j in judgements]
    given: list[Any] = [j.value for j in judgements] if None in numbers else list(numbers)
    items = {name: k for k, name in enumerate(sorted({j.item for j in judgements}))}
    values = sorted(set(given))
    place = {v: k for k, v in enumerate(values)}
    counts = np.zeros((len(items), len(values)), dtype=np.int64)
    for judgement, value in zip(judgements, given, strict=True):
        counts[items[judgement.item], place[value]] += 1
    return counts, values


def _agreed(counts: NDArray[np.int64]) -> float:
    """Mean over the items with two ratings or more of the share of pairs of raters that agree."""
    n = counts.sum(axis=1)
    paired = counts[n >= 2]
    if not len(paired):
        return math.nan
    n = paired.sum(axis=1)
    return float(np.mean((paired * (paired - 1)).sum(axis=1) / (n * (n - 1))))


def _prevalence(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of each value, (Q,): the mean over all rated items of its share among the item's ratings."""
    rated = counts[counts.sum(axis=1) > 0]
    return np.asarray((rated / rated.sum(axis=1, keepdims=True)).mean(axis=0))


def fleiss_kappa(counts: NDArray[np.int64]) -> float:
    """Fleiss' kappa (1971), in Gwet's generalisation to missing ratings (Handbook of Inter-Rater Reliability, 2014).

    With r_ik ratings of value k among the r_i of item i:

        p_a = mean over the items with r_i >= 2 of  sum_k r_ik (r_ik - 1) / (r_i (r_i - 1))
        p_k = mean over all items of  r_ik / r_i,     p_e = sum_k p_k^2
        kappa = (p_a - p_e) / (1 - p_e)

    Items with one rating count in p_e alone. With equal r_i it is Fleiss' own.

    Args:
        counts: (N, Q), ratings of each value for each item.

    Returns:
        At most 1; NaN where no item has two ratings, or all ratings are of one value (0 / 0).
    """
    expected = float((_prevalence(counts) ** 2).sum())
    return (_agreed(counts) - expected) / (1 - expected) if expected < 1 - 1e-12 else math.nan


def gwet_ac1(counts: NDArray[np.int64], *, n_values: int | None = None) -> float:
    """Gwet's AC1 (2008), with missing ratings as in `fleiss_kappa` and p_e = sum_k p_k (1 - p_k) / (Q - 1).

    Args:
        counts: (N, Q), ratings of each value for each item.
        n_values: Q of the scale; how many values occur unless given.

    Returns:
        At most 1; 1 where all ratings are of one value (nothing is left to chance), NaN where no item has two.
    """
    prevalence = _prevalence(counts)
    q = n_values or int((prevalence > 0).sum())
    expected = float((prevalence * (1 - prevalence)).sum()) / (q - 1) if q > 1 else 0.0
    return (_agreed(counts) - expected) / (1 - expected)


def krippendorff_alpha(
    counts: NDArray[np.int64], values: Sequence[float | str] | None = None, *, level: Level = "nominal"
) -> float:
    """Krippendorff's alpha, by the package ``krippendorff``; items with one rating do not count.

    Args:
        counts: (N, Q), ratings of each value for each item.
        values: the Q values in order; needed as numbers for the interval and ratio levels.
        level: of measurement.

    Returns:
        At most 1; NaN where no item has two ratings or they are all of one value.
    """
    import krippendorff

    paired = counts[counts.sum(axis=1) >= 2]
    seen = paired.sum(axis=0) > 0
    if seen.sum() < 2:
        return math.nan
    domain = np.arange(counts.shape[1], dtype=np.float64) if level in ("nominal", "ordinal") else np.array(values)
    # a rank between two values that occur nowhere changes nothing, so both are left out
    return float(
        krippendorff.alpha(value_counts=paired[:, seen], value_domain=domain[seen], level_of_measurement=level)
    )


# ---- the table


def agreement_table(
    judgements: Iterable[Judgement],
    *,
    level: Level | Mapping[str, Level] = "nominal",
    n_values: Mapping[str, int] | None = None,
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
) -> dict[str, dict[str, Any]]:
    """Give what ``pege study agreement --json`` prints, for each metric (docs/study.md).

    Args:
        judgements: ratings of any number of metrics.
        level: of measurement, for alpha; for all metrics or by metric.
        n_values: Q of AC1 by metric; the values that occur unless given.
        seed: of the bootstrap over items.
        n_resamples: of the bootstrap.

    Raises:
        InputError: labels on a metric whose level needs numbers.
    """
    by_metric: dict[str, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        by_metric[judgement.metric].append(judgement)
    return {
        metric: _agreement(
            metric,
            rated,
            level if isinstance(level, str) else level.get(metric, "nominal"),
            (n_values or {}).get(metric),
            seed,
            n_resamples,
        )
        for metric, rated in by_metric.items()
    }


def _agreement(
    metric: str, rated: Sequence[Judgement], level: Level, n_values: int | None, seed: int, n_resamples: int
) -> dict[str, Any]:
    counts, values = count_values(rated)
    if level != "nominal" and any(isinstance(v, str) for v in values):
        raise InputError(f"{metric!r} holds labels, no numbers", where=f"level {level}", fix="take nominal")
    if level == "ratio" and any(not isinstance(v, str) and v < 0 for v in values):
        raise InputError(f"{metric!r} holds values below 0", where="level ratio", fix="take interval")
    found: dict[str, Callable[[NDArray[np.int64]], float]] = {
        "fleiss_kappa": fleiss_kappa,
        "krippendorff_alpha": lambda c: krippendorff_alpha(c, values, level=level),
        "gwet_ac1": lambda c: gwet_ac1(c, n_values=n_values or len(values)),
    }
    return {
        **{name: _or_null(statistic(counts)) for name, statistic in found.items()},
        "n_items": len(counts),
        "n_raters": len({j.rater for j in rated}),
        "ci": _intervals(counts, found, seed=seed, n_resamples=n_resamples),
    }


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else value


def _intervals(
    counts: NDArray[np.int64],
    statistics: dict[str, Callable[[NDArray[np.int64]], float]],
    *,
    seed: int,
    n_resamples: int,
) -> dict[str, list[float] | None]:
    """95 % percentile bootstrap over items; a resample where a coefficient is not defined is left out of its own."""
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in statistics}
    defined = {name: s for name, s in statistics.items() if not math.isnan(s(counts))}
    for _ in range(n_resamples if defined else 0):
        resample = counts[rng.integers(len(counts), size=len(counts))]
        for name, statistic in defined.items():
            value = statistic(resample)
            if not math.isnan(value):
                drawn[name].append(value)
    return {name: np.quantile(v, [0.025, 0.975]).tolist() if v else None for name, v in drawn.items()}
