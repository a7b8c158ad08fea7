"""``pege report``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from cyclopts.types import NonNegativeInt, PositiveInt

from pege.dialog import Dialog
from pege.errors import InputError, did_you_mean
from pege.io import read_rows, write_json
from pege.lexicon import load_lexicon
from pege.metrics import Options, compare_table, is_scorable, language_of, score_table, valence_trajectory
from pege.metrics.ratings import Rating, read_ratings
from pege.report import dialogs_of, ratings_file, read_system, scores_file, write_report


def report(
    *systems: str,
    output: Path,
    lexicon: str | None = None,
    language: Literal["en", "zh"] | None = None,
    unseen_lexicon: str | None = None,
    classifier: str | None = None,
    ratings: tuple[str, ...] = (),
    n_samples: NonNegativeInt = 6,
    seed: NonNegativeInt = 0,
    n_resamples: PositiveInt = 9_999,
) -> None:
    """Write one self-contained page that compares systems; the first is what the others are compared with.

    Args:
        systems: runs with a selfchat.jsonl, or self-chat files; NAME=PLACE names one.
        output: the HTML file.
        lexicon: one of ours or a file; ours of the language unless named.
        language: of all dialogs; guessed unless named.
        unseen_lexicon: a lexicon that training never saw.
        classifier: an emotion classifier that training never saw (a folder, or `default` for ours).
        ratings: NAME=FILE.csv, human ratings of a system, columns id,rater,scale,rating; else ratings.csv in its run.
        n_samples: dialogs shown side by side.
        seed: of their pick, of bootstrap and permutation.
        n_resamples: of both.
    """
    if not systems:
        raise InputError("no systems", fix="name runs or self-chat files")
    places = _places(systems)
    dialogs = [list(read_rows(file, Dialog)) for file in places.values()]
    rated = _ratings(places, ratings)
    spoken = language_of([d for side in dialogs for d in side], language)
    chosen = load_lexicon(lexicon or f"pege-{spoken}")
    options = Options(
        lexicon=chosen,
        language=spoken,
        unseen_lexicon=load_lexicon(unseen_lexicon) if unseen_lexicon else None,
        classifier=classifier,
        seed=seed,
        n_resamples=n_resamples,
    )
    comparisons: list[dict[str, Any] | None] = []
    for file, side, own in zip(places.values(), dialogs, rated, strict=True):
        table, _ = score_table(side, replace(options, ratings=own))
        table["trajectory"] = valence_trajectory([d for d in side if is_scorable(d)], chosen, spoken, seed=seed)
        write_json(scores_file(file), table)
        both = (own, rated[0]) if own is not None and rated[0] is not None else None
        comparisons.append(None if side is dialogs[0] else compare_table(side, dialogs[0], options, ratings=both))
    found = [read_system(name, file) for name, file in places.items()]
    write_report(found, comparisons, chosen, output, n_samples=n_samples, seed=seed)
    print(output)


def _places(systems: Sequence[str]) -> dict[str, Path]:
    """Name -> self-chat file."""
    places: dict[str, Path] = {}
    for name, file in map(dialogs_of, systems):
        if name in places:
            raise InputError(f"two systems are called {name!r}", fix="name them: NAME=PLACE")
        places[name] = file
    return places


def _ratings(places: Mapping[str, Path], named: Sequence[str]) -> list[list[Rating] | None]:
    """Ratings of each system, None where there are none."""
    files = {name: ratings_file(file) for name, file in places.items() if ratings_file(file).is_file()}
    for spec in named:
        name, equals, file = spec.partition("=")
        if not equals or name not in places:
            raise InputError(f"{name!r} is no system of this page", where="--ratings", fix=did_you_mean(name, places))
        files[name] = Path(file)
    return [read_ratings(files[name]) if name in files else None for name in places]
