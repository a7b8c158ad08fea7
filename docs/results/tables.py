"""Write docs/results/tables.en.md from a study's folder, and put its reports beside it.

    pege reproduce table3 --base causal && pege reproduce table5 --base causal && python docs/results/tables.py [STUDY]

The halves of the studies were run apart, so each report corrects for its own claims; here each claim is also corrected
for those of both halves, the others' p-values being read from table3.md and table5.md.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from main_path import difference

from pege.io import read_json, write_text
from pege.lexicon import load_lexicon
from pege.loss import context_weight
from pege.metrics.interval import paired_p_value
from pege.metrics.pege import utterance_vads
from pege.reproduce.claims import holm
from pege.reproduce.config import load_study
from pege.reproduce.results import RowResult, read_results

HERE = Path(__file__).parent
STUDIES = ("table3", "table5")
BASE, LANGUAGE = "causal", "en"
NLL = "PLATO-2-FT"
LOSSES = ("PEG only", "NER only", "PEGE")
DOSES = {"PLATO-2-FT": "0", "PEGE x 0.4": "0.4", "PEGE": "1", "PEGE x 4": "4"}
TRIVIAL = ("cheerful", "parrot", "happy words", "random response")


def main(study: Path) -> None:
    """Read the runs, write the page."""
    tables = {name: read_json(study / f"{name}.json") for name in STUDIES}
    rows: dict[str, RowResult] = {}
    for name in STUDIES:
        rows |= {r.name: r for r in read_results(load_study(name), study)[BASE]}
    lines = ["# Tables 3 and 5, the English half", "", part("intro"), "", "## Claims", "", *claims(tables), ""]
    lines += ["## What the loss does along the dialog", "", *along(rows), ""]
    lines += ["## What the weights of the loss do", "", *doses(rows), ""]
    lines += ["## Agents that should lose", "", *trivial(rows), "", part("why")]
    write_text(HERE / f"tables.{LANGUAGE}.md", "\n".join(lines) + "\n")
    for name in STUDIES:
        shutil.copy(study / f"{name}.md", HERE / f"{name}.{LANGUAGE}.md")
    for picture in (study / "pictures").glob(f"*.{BASE}.*.svg"):
        shutil.copy(picture, HERE / "pictures")


def part(name: str) -> str:
    """What is written by hand."""
    return (HERE / f"tables.{LANGUAGE}.{name}.md").read_text(encoding="utf-8").strip()


def other_half(table: str) -> list[tuple[str, float, str]]:
    """Number, p and verdict of each claim of the report that is there already."""
    lines = (HERE / f"{table}.md").read_text(encoding="utf-8").splitlines()
    found = []
    for cells in (re.split(r"\s*\|\s*", line.strip("| ")) for line in lines if re.match(r"\| [TO]\d", line)):
        found.append((cells[0], float(cells[7]), cells[9].strip("*")))
    return found


def claims(tables: dict[str, Any]) -> Iterator[str]:
    """Every claim with its verdict, beside the other half's."""
    yield "| | claim | score | difference, 95 % interval | by seed | p | Holm | of both halves | verdict | in Chinese |"
    yield "|---" * 10 + "|"
    for name, table in tables.items():
        theirs, ours = other_half(name), table["claims"]
        both = holm([*(c["p"] for c in ours), *(p for _, p, _ in theirs)])
        verdicts = {number: verdict for number, _, verdict in theirs}
        for c, p_both in zip(ours, both, strict=False):
            low, high = c["interval"]
            verdict = f"**{c['verdict']}**" if c["verdict"] == "holds" else c["verdict"]
            cells = (
                c["number"], c["says"], c["score"], f"{c['difference']:+.3f} [{low:+.3f}, {high:+.3f}]",
                ", ".join(f"{d:+.3f}" for d in c["by_seed"]), f"{c['p']:.4f}", f"{c['p_holm']:.3f}", f"{p_both:.3f}",
                verdict, verdicts.get(c["number"], "-"),
            )  # fmt: skip
            yield f"| {' | '.join(cells)} |"


def along(rows: dict[str, RowResult]) -> Iterator[str]:
    """Each response's distance from u1 and its valence, less NLL's; starters averaged over the seeds."""
    lexicon = load_lexicon(f"pege-{LANGUAGE}")
    far, bright = {}, {}
    for name in (NLL, *LOSSES):
        talks = [rows[name].dialogs(seed) for seed in rows[name].seeds]
        n = min(len(d.messages) for talk in talks for d in talk)
        texts = [t for talk in talks for d in talk for t in d.texts[:n]]
        vads = utterance_vads(texts, lexicon, LANGUAGE)
        vads = np.where(np.isnan(vads), lexicon.mean, vads).reshape(len(talks), len(talks[0]), n, 3)
        far[name] = np.abs(vads - vads[:, :, :1]).sum(-1).mean(0)  # (starters, utterances)
        bright[name] = vads[..., 0].mean(0)
    first_half = rows[NLL].dialogs(rows[NLL].seeds[0])[0].n_half
    heads = (NLL, *(f"{x} less it" for x in LOSSES))
    yield f"| c | f(c) | in Eq. 8 | distance from u1, {' | '.join(heads)} | valence, {' | '.join(heads)} |"
    yield "|---" * 11 + "|"
    for k, c in enumerate(range(1, far[NLL].shape[1], 2)):
        cells = [str(c), f"{float(context_weight(c, 0.0)):+.2f}", "yes" if k < first_half else ""]
        for by in (far, bright):
            cells += [f"{by[NLL][:, c].mean():.3f}", *(difference(by[x][:, c], by[NLL][:, c]) for x in LOSSES)]
        yield f"| {' | '.join(cells)} |"


def doses(rows: dict[str, RowResult]) -> Iterator[str]:
    """Scores by the weight of the loss, the first seed."""
    yield "| weights times | E-Score | PEG-Score | PEGE-Score | perplexity |"
    yield "|---|---|---|---|---|"
    for name, times in DOSES.items():
        if name in rows:
            values = [f"{rows[name].values[s][0].mean():+.3f}" for s in ("e", "peg", "pege")]
            yield f"| {times} | {' | '.join(values)} | {rows[name].perplexity or float('nan'):.1f} |"


def trivial(rows: dict[str, RowResult]) -> Iterator[str]:
    """PEGE-Score and what should catch agents without a model, beside PEGE, seeds averaged."""
    names = [n for n in (*TRIVIAL, "PEGE", NLL) if n in rows]
    scores = [
        s for s in ("pege", "relevance.fits", "repetition.rep_4", "repetition.echo")
        if all(s in rows[n].values for n in names)
    ]  # fmt: skip
    yield "| agent | " + " | ".join(f"{s} | less PEGE's | p" for s in scores) + " |"
    yield "|---" * (1 + 3 * len(scores)) + "|"
    for name in names:
        cells = []
        for s in scores:
            own, ref = rows[name].values[s].mean(0), rows["PEGE"].values[s].mean(0)
            other = name != "PEGE"
            p = f"{paired_p_value(own, ref):.4f}" if other else ""
            cells += [f"{own.mean():+.3f}", difference(own, ref) if other else "", p]
        yield f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/reproduce"))
