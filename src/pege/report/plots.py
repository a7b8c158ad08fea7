"""Plots as SVG text: no script, no time stamps, readable on light, dark and paper."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from pege.report.systems import System

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")  # safe for colour-blind eyes
_GREY = "#888888"
_TERMS = ("nll", "peg", "ner")


def valence_plot(systems: Sequence[System], *, reference: float | None = None) -> str:
    """Plot the mean valence of user (solid) and agent (dashed) along the utterances, a panel a system, with bands."""
    figure, axes = _figure(len(systems))
    for system, axis, colour in zip(systems, axes, COLOURS * 9, strict=False):
        for speaker, line, alpha in (("user", "-o", 0.25), ("agent", "--s", 0.12)):
            points = [p for p in system.scores.get("trajectory", []) if p["speaker"] == speaker]
            x = [p["k"] for p in points]
            axis.plot(x, [p["mean"] for p in points], line, color=colour, markersize=3, label=speaker)
            axis.fill_between(x, [p["ci"][0] for p in points], [p["ci"][1] for p in points], color=colour, alpha=alpha)
        if reference is not None:
            axis.axhline(reference, color=_GREY, linewidth=0.8, linestyle=":")
        axis.set_title(_plain(system.name), color=_GREY, fontsize=10)
        axis.set_xlabel("utterance", color=_GREY)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(frameon=False, labelcolor=_GREY, fontsize=8)
    axes[0].set_ylabel("mean valence", color=_GREY)
    return _svg(figure)


def terms_plot(systems: Sequence[System]) -> str | None:
    """Plot nll, peg and ner over the training steps, a panel a term; None where no system has a log."""
    trained = [(s, c) for s, c in zip(systems, COLOURS * 9, strict=False) if any("nll" in r for r in s.log)]
    if not trained:
        return None
    figure, axes = _figure(len(_TERMS), share_y=False)
    for term, axis in zip(_TERMS, axes, strict=True):
        for system, colour in trained:
            rows = [r for r in system.log if term in r]
            axis.plot([r["step"] for r in rows], [r[term] for r in rows], color=colour, label=_plain(system.name))
        axis.set_title(term, color=_GREY, fontsize=10)
        axis.set_xlabel("step", color=_GREY)
    axes[0].legend(frameon=False, labelcolor=_GREY, fontsize=8)
    return _svg(figure)


def _plain(text: str) -> str:
    return text.replace("$", r"\$")  # a dollar would start mathematics


def _figure(n: int, *, share_y: bool = True) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(4.2, 3.1 * n), 2.9), layout="constrained")
    axes = figure.subplots(1, n, sharey=share_y, squeeze=False)[0]
    for axis in axes:
        axis.set_facecolor("none")
        axis.tick_params(colors=_GREY, labelsize=8)
        for side, spine in axis.spines.items():
            spine.set_color(_GREY)
            spine.set_visible(side in ("left", "bottom"))
    return figure, axes


def _svg(figure: Any) -> str:
    import matplotlib as mpl

    out = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "pege", "svg.fonttype": "path"}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
