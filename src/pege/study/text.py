"""Results and agreement as text for a terminal, in Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pege.study.design import Design

_NAMES = {"fleiss_kappa": "Fleiss' kappa", "krippendorff_alpha": "Krippendorff's alpha", "gwet_ac1": "Gwet's AC1"}


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [list(head), ["-" * len(h) for h in head], *[list(r) for r in rows]]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _cell(value: float | None, ci: Sequence[float] | None, *, form: str = ".3f") -> str:
    if value is None:
        return "–"
    return f"{value:{form}}" if ci is None else f"{value:{form}} [{ci[0]:{form}}, {ci[1]:{form}}]"


def agreement_text(table: dict[str, Any]) -> str:
    """The coefficients of each metric, with intervals."""
    rows = [
        [metric, *(_cell(a[k], a["ci"][k]) for k in _NAMES), str(a["n_items"]), str(a["n_raters"])]
        for metric, a in table.items()
    ]
    return "\n".join(_table(["metric", *_NAMES.values(), "items", "raters"], rows))


def results_text(design: Design, found: dict[str, Any]) -> str:
    """All results."""
    lines = [f"{found['n_ratings']} ratings by {found['n_raters']} raters", ""]
    asked = list(dict.fromkeys(m for row in found["table"].values() for m in row))
    if asked:
        titles = {m.name: m.title.of("en") for m in design.metrics}
        rows = [
            [s, *(_cell(row[m]["mean"], row[m]["ci"]) if m in row else "–" for m in asked)]
            for s, row in found["table"].items()
        ]
        lines += ["Majority votes, mean over dialogs, 95 % intervals", ""]
        lines += _table(["system", *(titles[m] for m in asked)], rows)
    if first := found.get("empathy_first"):
        lines += ["", "Dialogs that express empathy first, of those whose guidance succeeds", ""]
        lines += _table(
            ["system", "share", "successes"],
            [[s, _cell(f["share"], f["ci"]), f"{f['n_successes']:g}"] for s, f in first.items()],
        )
    tests = [[m, f"{t['a']} - {t['b']}", _cell(t["difference"], t["ci"], form="+.3f"), f"{t['p']:.4f}", f"{t['q']:.4f}"]
             for m, each in found["tests"].items() for t in each]  # fmt: skip
    if tests:
        lines += ["", "Paired permutation tests; q: p after Benjamini and Hochberg over the pairs of a metric", ""]
        lines += _table(["metric", "systems", "difference", "p", "q"], tests)
    for question, pairs in found.get("comparison", {}).items():
        lines += ["", f"Comparison: {question}", ""]
        rows = [[f"{c['a']} : {c['b']}", f"{c['wins_a']} : {c['wins_b']} ({c['ties']} ties)",
                 _cell(c["share_a"], c["ci"]), _cell(c["p"], None, form=".4f"), _cell(c["q"], None, form=".4f")]
                for c in pairs]  # fmt: skip
        lines += _table(["systems", "pairs won", "share of the first", "p", "q"], rows)
    lines += ["", "Agreement of raters", "", agreement_text(found["agreement"])]
    scores = {s: cells for s, cells in found.get("correlation", {}).items() if isinstance(cells, dict)}
    if scores:
        lines += ["", f"Correlation with the scores, {found['correlation']['n_dialogs']} dialogs: Spearman", ""]
        lines += _table(
            ["score", *asked],
            [[s, *(_cell(c[m]["spearman"], c[m]["ci"]["spearman"], form="+.3f") for m in asked)]
             for s, c in scores.items()],
        )  # fmt: skip
        lines.append(f"  {found['correlation']['signature']}")
    return "\n".join(lines)
