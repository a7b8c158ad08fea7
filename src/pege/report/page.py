"""One self-contained HTML page that says who did better."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jinja2 import Environment, select_autoescape
from markupsafe import Markup

from pege import __version__
from pege.dialog import Dialog
from pege.io import write_text
from pege.lexicon import Lexicon
from pege.report.plots import terms_plots, valence_plots
from pege.report.systems import System
from pege.words import segmenter

TITLES = {"peg": "PEG-Score", "e": "E-Score", "pege": "PEGE-Score"}
DISTINCT = {"distinct_1": "Distinct-1", "distinct_2": "Distinct-2"}


def write_report(
    systems: Sequence[System],
    comparisons: Sequence[dict[str, Any] | None],
    lexicon: Lexicon,
    output: Path | str,
    *,
    n_samples: int = 6,
    seed: int = 0,
) -> Path:
    """Write the page.

    Args:
        systems: the first is what the others are compared with.
        comparisons: for each system, what `pege compare` gives for it against the first; None where it has none.
        lexicon: tints the words of the sample dialogs by valence.
        output: the HTML file.
        n_samples: dialogs side by side, picked by ``seed`` among the starters that all systems have.
        seed: of the pick.
    """
    environment = Environment(autoescape=select_autoescape(default=True), trim_blocks=True, lstrip_blocks=True)
    source = (importlib.resources.files("pege") / "assets" / "pages" / "report.html.j2").read_text(encoding="utf-8")
    text = environment.from_string(source).render(
        version=__version__,
        systems=systems,
        rows=[_row(s, c) for s, c in zip(systems, comparisons, strict=True)],
        companions=_companion_rows(systems, comparisons),
        own_classifier=any("classifier:pege-" in str(s.scores["companions"].get("classifier")) for s in systems),
        valence_plots=_markup(valence_plots(systems, reference=float(lexicon.mean[0]))),
        terms_plots=_markup(terms_plots(systems)),
        samples=_samples(systems, lexicon, n_samples, seed),
        configs=[(s.name, yaml.safe_dump(s.config, sort_keys=False)) for s in systems if s.config],
        seed=seed,
        verdict=verdict(systems, comparisons),
    )
    write_text(output, text)
    return Path(output)


def _markup(plots: Sequence[str]) -> list[Markup]:
    return [Markup(svg) for svg in plots]  # noqa: S704 -- ours, escaped by matplotlib


def verdict(systems: Sequence[System], comparisons: Sequence[dict[str, Any] | None]) -> list[str]:
    """Say in a sentence a system what the PEGE-Score shows, and what it does not."""
    lines = []
    for system, comparison in zip(systems, comparisons, strict=True):
        if comparison is None:
            continue
        row = comparison["scores"]["pege"]
        low, high = row["ci"]
        if row["p"] >= 0.05:
            word = "is not told apart from"
        else:
            word = "scores higher than" if row["difference"] > 0 else "scores lower than"
        lines.append(
            f"{system.name} {word} {systems[0].name}: PEGE-Score {row['difference']:+.3f} [{low:+.3f}, {high:+.3f}], "
            f"p = {row['p']:.4f}, {comparison['n_pairs']} pairs."
        )
    return lines


def _row(system: System, comparison: dict[str, Any] | None) -> dict[str, Any]:
    cells = _cells(system.scores, TITLES, (comparison or {}).get("scores", {}))
    distinct = _cells(system.scores["distinct"], DISTINCT, {})
    return {"name": system.name, "cells": cells, "distinct": distinct, "n": system.scores["n_dialogs"]}


def _companion_rows(
    systems: Sequence[System], comparisons: Sequence[dict[str, Any] | None]
) -> dict[str, list[dict[str, Any]]]:
    """Rows of the companions, where they were measured."""
    found: dict[str, list[dict[str, Any]]] = {}
    for system, comparison in zip(systems, comparisons, strict=True):
        for companion, table in system.scores["companions"].items():
            titles = {"unseen_lexicon": TITLES, "classifier": {"p_positive_end": "P(positive)"}}.get(
                companion, {scale: scale for scale in table["ci"]}
            )
            tested = {
                name.removeprefix(f"{companion}."): value
                for name, value in (comparison or {}).get("scores", {}).items()
                if name.startswith(f"{companion}.")
            }
            row = table | {"name": system.name, "cells": _cells(table, titles, tested)}
            found.setdefault(companion, []).append(row)
    return found


def _cells(table: dict[str, Any], titles: Mapping[str, str], tested: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A cell a score: its title, value, interval, and p where it was tested."""
    return [
        {"title": title, "value": table[n], "ci": table["ci"][n], "p": tested.get(n, {}).get("p")}
        for n, title in titles.items()
    ]


def _samples(systems: Sequence[System], lexicon: Lexicon, n: int, seed: int) -> list[dict[str, Any]]:
    by_starter = [{d.texts[0]: d for d in s.dialogs} for s in systems]
    shared = [t for t in by_starter[0] if all(t in side for side in by_starter)]
    picked = sorted(np.random.default_rng(seed).permutation(len(shared))[:n].tolist())
    return [
        {
            "starter": shared[k],
            "talks": [
                {"name": s.name, "lines": _tinted(side[shared[k]], lexicon)}
                for s, side in zip(systems, by_starter, strict=True)
            ],
        }
        for k in picked
    ]


def _tinted(dialog: Dialog, lexicon: Lexicon) -> list[dict[str, Any]]:
    """Utterances as pieces of text, each with a class of valence: low, high, or none."""
    cut, lines = segmenter(dialog.language), []
    centre = float(lexicon.mean[0])
    for message in dialog.messages:
        words = {w for w in cut(message.content) if w in lexicon}
        pieces: list[tuple[str, str]] = []
        pattern = "|".join(re.escape(w) for w in sorted(words, key=len, reverse=True))
        edge = r"(?<![^\W_])(%s)(?![^\W_])" if dialog.language == "en" else "(%s)"
        for piece in re.split(edge % pattern, message.content, flags=re.IGNORECASE) if words else [message.content]:
            vad = lexicon.vad(piece.lower())
            tint = "" if vad is None else "high" if vad[0] > centre + 0.15 else "low" if vad[0] < centre - 0.15 else ""
            if piece:
                pieces.append((piece, tint))
        lines.append({"role": "user" if message.role == "user" else "agent", "pieces": pieces})
    return lines
