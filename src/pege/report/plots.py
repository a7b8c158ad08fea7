"""Plots as SVG text: no script, no time stamps, readable on light, dark and paper."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from pege.report.systems import System

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")  # safe for colour-blind eyes
_GREY = "#888888"
_TERMS = ("nll", "peg", "ner")
_MARKERS = ("o", "s", "^", "D")
_LINES = ("-", "--", ":", "-.")  # runs from one start lie on each other: a broken line shows what is under it


def valence_plots(systems: Sequence[System], *, reference: float | None = None) -> list[str]:
    """Plot the mean valence of user (solid) and agent (dashed) along the utterances, with bands: a plot a system."""
    points = [p for s in systems for p in s.scores.get("trajectory", [])]
    heights = [v for p in points for v in (p["mean"], *p["ci"])] + ([] if reference is None else [reference])
    margin = 0.05 * (max(heights) - min(heights)) if heights else 0.0
    plots = []
    for system, colour in zip(systems, COLOURS * 9, strict=False):
        figure, axis = _figure(system.name)
        for speaker, line, alpha in (("user", "-o", 0.25), ("agent", "--s", 0.12)):
            own = [p for p in system.scores.get("trajectory", []) if p["speaker"] == speaker]
            x = [p["k"] for p in own]
            axis.plot(x, [p["mean"] for p in own], line, color=colour, markersize=3, label=speaker)
            axis.fill_between(
                x, [p["ci"][0] for p in own], [p["ci"][1] for p in own], color=colour, alpha=alpha, linewidth=0
            )
        if reference is not None:
            axis.axhline(reference, color=_GREY, linewidth=0.8, linestyle=":")
        if margin:
            axis.set_ylim(min(heights) - margin, max(heights) + margin)  # the same for all: they are compared
        axis.set_xlabel("utterance", color=_GREY)
        axis.set_ylabel("mean valence", color=_GREY)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(frameon=False, labelcolor=_GREY, fontsize=8, loc="upper left")
        plots.append(_svg(figure))
    return plots


def terms_plots(systems: Sequence[System]) -> list[str]:
    """Plot nll, peg and ner over the training steps: a plot a term; none where no system has a log."""
    trained = [(s, c) for s, c in zip(systems, COLOURS * 9, strict=False) if any("nll" in r for r in s.log)]
    plots = []
    for term in _TERMS if trained else ():
        figure, axis = _figure(term)
        for k, (system, colour) in enumerate(trained):
            rows = [r for r in system.log if term in r]
            x, y = [r["step"] for r in rows], [r[term] for r in rows]
            axis.plot(x, y, _LINES[k % len(_LINES)], color=colour, linewidth=1.2, label=_plain(system.name))
        axis.set_xlabel("step", color=_GREY)
        axis.legend(frameon=False, labelcolor=_GREY, fontsize=8)
        plots.append(_svg(figure))
    return plots


def trajectory_plot(
    lines: Mapping[str, Sequence[dict[str, Any]]], speaker: str, *, reference: float | None = None
) -> str:
    """Plot the mean valence of one speaker along the utterances, a line a system.

    Args:
        lines: of `pege.metrics.valence_trajectory`, by the system's name.
        speaker: ``user`` or ``agent``.
        reference: the lexicon's mean valence.
    """
    figure, axis = _figure(f"valence of the {speaker}", width=7.2)
    for k, (name, points) in enumerate(lines.items()):
        own = [p for p in points if p["speaker"] == speaker]
        style = _LINES[k // len(COLOURS) % len(_LINES)]
        axis.plot(
            [p["k"] for p in own], [p["mean"] for p in own], style, color=COLOURS[k % len(COLOURS)], linewidth=1.3,
            label=_plain(name),
        )  # fmt: skip
    if reference is not None:
        axis.axhline(reference, color=_GREY, linewidth=0.8, linestyle=":")
    axis.set_xlabel("utterance", color=_GREY)
    axis.set_ylabel("mean valence", color=_GREY)
    figure.legend(frameon=False, labelcolor=_GREY, fontsize=7, loc="outside right upper")
    return _svg(figure)


def trade_off_plot(points: Mapping[str, tuple[float, float]], *, x: str, y: str) -> str:
    """Plot systems as points, named in a legend: names beside points that lie close would hide each other."""
    figure, axis = _figure(f"{y} against {x}", width=7.2)
    for k, (name, (a, b)) in enumerate(points.items()):
        marker = _MARKERS[k // len(COLOURS) % len(_MARKERS)]
        axis.plot([a], [b], marker, color=COLOURS[k % len(COLOURS)], label=_plain(name))
    axis.set_xlabel(x, color=_GREY)
    axis.set_ylabel(y, color=_GREY)
    figure.legend(frameon=False, labelcolor=_GREY, fontsize=7, loc="outside right upper")
    return _svg(figure)


def _plain(text: str) -> str:
    return text.replace("$", r"\$")  # a dollar would start mathematics


def _figure(title: str, *, width: float = 4.2) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 2.9), layout="constrained")
    axis = figure.subplots()
    axis.set_title(_plain(title), color=_GREY, fontsize=10)
    axis.set_facecolor("none")
    axis.tick_params(colors=_GREY, labelsize=8)
    for side, spine in axis.spines.items():
        spine.set_color(_GREY)
        spine.set_visible(side in ("left", "bottom"))
    return figure, axis


def _svg(figure: Any) -> str:
    import matplotlib as mpl

    out = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "pege", "svg.fonttype": "path"}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
