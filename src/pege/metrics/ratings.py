"""Human ratings of dialogs, the third companion of the scores (design sec. 7)."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from pege.errors import InputError


class Rating(BaseModel):
    """What one rater said of one dialog on one scale."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    id: str
    rater: str
    scale: str
    rating: FiniteFloat


def read_ratings(path: Path | str) -> list[Rating]:
    """Read a CSV with the columns ``id, rater, scale, rating``.

    Raises:
        InputError: no such file, a missing column, a rating that is no number, or two by a rater for one thing.
    """
    found: dict[tuple[str, str, str], Rating] = {}
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            for line, row in enumerate(csv.DictReader(file), start=2):
                rating = Rating.model_validate(row)
                key = (rating.id, rating.rater, rating.scale)
                if key in found:
                    raise InputError(f"rater {rating.rater!r} rates {rating.id!r} twice", where=f"{path}:{line}")
                found[key] = rating
    except ValidationError as e:
        first = e.errors()[0]
        raise InputError(
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            where=f"{path}:{line}",
            fix="columns: id,rater,scale,rating",
        ) from e
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise InputError(f"cannot be read ({e})", where=path) from e
    return list(found.values())


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
            raise InputError(f"{len(missing)} dialogs have no rating on {scale!r}, e.g. {missing[0]!r}")
    return {s: np.array([np.mean(rated[i]) for i in names]) for s, rated in by_scale.items()}
