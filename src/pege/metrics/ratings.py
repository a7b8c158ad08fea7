"""Human ratings of dialogs, the third companion of the scores (design sec. 7)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FiniteFloat, StringConstraints, ValidationError

from pege.csvfile import CsvRows, read_csv
from pege.errors import InputError
from pege.io import why_invalid

_FIX = "give the columns id,rater,scale,rating (docs/scores.md)"

Name = Annotated[str, StringConstraints(min_length=1)]


class Rating(BaseModel):
    """What one rater said of one dialog on one scale."""

    model_config = ConfigDict(frozen=True)
    id: Name
    rater: Name
    scale: Name
    rating: FiniteFloat


def read_ratings(path: Path | str) -> list[Rating]:
    """Read a CSV with the columns ``id, rater, scale, rating``; further columns are left aside.

    Raises:
        InputError: no such file, no ratings in it, a missing column, a rating that is no number, or two by a rater for
            one thing.
    """
    return read_csv(path, _read_rows, holds="ratings", fix=_FIX)


def _read_rows(rows: CsvRows) -> list[Rating]:
    missing = [c for c in Rating.model_fields if c not in rows.header]
    if missing and rows.header:
        raise InputError(f"lacks the column {' and '.join(missing)}", where=f"{rows.path}:1", fix=_FIX)
    found: dict[tuple[str, str, str], Rating] = {}
    for line, row in rows:
        where = f"{rows.path}:{line}"
        try:
            rating = Rating.model_validate({c: row[c] for c in Rating.model_fields})
        except ValidationError as e:
            raise InputError(why_invalid(e), where=where, fix=_FIX) from e
        key = (rating.id, rating.rater, rating.scale)
        if key in found:
            raise InputError(
                f"rater {rating.rater!r} rates {rating.id!r} twice", where=where, fix="keep one of the lines"
            )
        found[key] = rating
    return list(found.values())


def check_rated(ratings: Iterable[Rating], ids: Iterable[str]) -> None:
    """Check that ratings are of these dialogs.

    Raises:
        InputError: they are of others too.
    """
    known = set(ids)
    unknown = sorted({r.id for r in ratings} - known)
    if unknown:
        raise InputError(
            f"{len(unknown)} of the ids that are rated are of no dialog, e.g. {unknown[0]!r}",
            where="ratings",
            fix="give ratings of these dialogs alone",
        )


def rating_columns(ratings: Iterable[Rating], ids: Iterable[str]) -> dict[str, NDArray[np.float64]]:
    """Give, for each scale, the mean over raters of each dialog, (N,), in the order of ``ids``.

    Raises:
        InputError: a dialog that nobody rated on a scale.
    """
    by_scale: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for rating in ratings:
        by_scale[rating.scale][rating.id].append(rating.rating)
    names = list(ids)
    for scale, rated in by_scale.items():
        missing = [i for i in names if i not in rated]
        if missing:
            raise InputError(
                f"{len(missing)} dialogs have no rating on {scale!r}, e.g. {missing[0]!r}",
                fix="rate each on each scale",
            )
    return {s: np.array([np.mean(rated[i]) for i in names]) for s, rated in by_scale.items()}
