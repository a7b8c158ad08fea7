"""Write docs/results/tables.md from the folder of both studies, and put their reports beside it.

`bash docs/results/tables.sh` ends with it. What is written by hand is in tables.intro.md and tables.why.md.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
from main_path import difference

from pege.dialog import Dialog, make_dialog
from pege.io import read_json, read_rows, write_text
from pege.lexicon import load_lexicon
from pege.loss import context_weight
from pege.metrics.interval import paired_p_value
from pege.metrics.pege import score_dialogs, utterance_vads
from pege.reproduce import load_study, plan_study
from pege.reproduce.config import Base
from pege.reproduce.results import RowResult, read_results
from pege.reproduce.run import done_steps
from pege.selfchat.starters import CLASSES, load_starters, starter_emotion
from pege.words import segmenter

HERE = Path(__file__).parent
STUDIES = ("table3", "table5")
BASES = ("plato-mini", "causal")
NLL = "PLATO-2-FT"
LOSSES = ("PEG only", "NER only", "PEGE")
DOSES = {
    "PLATO-2-FT": "0, 0", "PEG only": "1, 0", "NER only": "0, 1", "PEGE x 0.4": "0.4, 0.4", "PEGE": "1, 1",
    "alpha x 4": "4, 1", "beta x 4": "1, 4", "PEGE x 4": "4, 4",
}  # fmt: skip
TRIVIAL = ("cheerful", "parrot", "happy words", "random response")
PAIRS = (
    ("PEGE", NLL), ("PEG only", NLL), ("NER only", NLL), ("PEGE", "PEG only"), ("PEGE", "NER only"),
    (NLL, "NLL, random data"), ("PEGE", "PEGE, random data"), ("PEGE, random data", "NLL, random data"),
    (NLL, "PLATO-2"), ("NLL, random data", "PLATO-2"), ("PEGE", "PLATO-2"),
    ("MoEL", "PEGE"), ("MoEL", NLL), ("MIME", "PEGE"), ("MIME", NLL),
    ("MoEL", "PLATO-2-FT, 900 steps"), ("PLATO-2-FT, 900 steps", "PEGE, 900 steps"),
    ("PEGE x 4", NLL), ("alpha x 4", NLL), ("beta x 4", NLL), ("PEGE-target", NLL), ("PEGE-target", "PEGE"),
    ("target 1.5", NLL), ("FT guided", NLL), ("FT preferred", NLL),
)  # fmt: skip
UNSEEN = ("unseen_lexicon.peg", "unseen_lexicon.e", "unseen_lexicon.pege")
PARTS = ("peg", "e", "pege", *UNSEEN, "classifier.p_positive_end", "relevance.fits")
SPLIT = (("PEG only", NLL), ("NER only", NLL), ("PEGE", NLL), ("PEGE, random data", "NLL, random data"))
LENGTHS = (
    "PEGE", "PLATO-2", NLL, "MoEL", "MIME", "PEG only", "NER only", "NLL, random data", "PEGE, random data",
    "random response",
)  # fmt: skip
CATCHERS = ("pege", "relevance.fits", "repetition.rep_4", "repetition.echo")

Rows = dict[str, RowResult]


def main(study: Path) -> None:
    """Read the runs, write the page."""
    data = Path(os.environ.get("PEGE_DATA", "../shared/data"))
    rows: dict[str, Rows] = {base: {} for base in BASES}
    for name in STUDIES:
        found = load_study(name)
        steps = plan_study(found, study, data)
        for base, results in read_results(found, steps, done=done_steps(steps, study), output=study).items():
            rows[base] |= {r.name: r for r in results}
    if empty := [base for base in BASES if NLL not in rows[base] or "PEGE" not in rows[base]]:
        sys.exit(f"{study}: nothing of {empty[0]} is done with PEGE_DATA={data}; see tables.sh")
    lines = ["# Tables 3 and 5", "", part("intro"), "", "## Claims", "", *claims(study), ""]
    for title, table in (
        ("Each pair, score by score", pairs),
        ("What the loss does along the dialog", along),
        ("Does the loss heed how the user feels?", by_emotion),
        ("What each weight of the loss does", doses),
        ("Is it length?", lengths),
        ("Agents that should lose", trivial),
    ):
        lines += [f"## {title}", ""]
        for base in BASES:
            lines += [f"On {base}:", "", *table(rows[base]), ""]
    lines += ["## What PEG-Score gains E-Score loses", "", *trade(rows), ""]
    lines += ["## What people do in the corpora", "", *people(found.bases, study / "corpora"), ""]
    write_text(HERE / "tables.md", "\n".join([*lines, part("why")]) + "\n")
    for name in STUDIES:
        shutil.copy(study / f"{name}.md", HERE)
        for picture in (study / "pictures").glob(f"{name}.*.svg"):
            shutil.copy(picture, HERE / "pictures")


def part(name: str) -> str:
    """What is written by hand."""
    return (HERE / f"tables.{name}.md").read_text(encoding="utf-8").strip()


def claims(study: Path) -> Iterator[str]:
    """Every claim, on both bases, corrected for all of its study."""
    sides = " | ".join(f"{base}: difference, 95 % interval | p, Holm | verdict" for base in BASES)
    yield f"| | claim | score | {sides} |"
    yield "|---" * (3 + 3 * len(BASES)) + "|"
    for name in STUDIES:
        found: dict[str, dict[str, Any]] = {}
        for c in read_json(study / f"{name}.json")["claims"]:
            found.setdefault(c["number"], {})[c["base"]] = c
        for number, by_base in found.items():
            first = next(iter(by_base.values()))
            cells = [number, first["says"], first["score"]]
            for base in BASES:
                cells += judged(by_base[base]) if base in by_base else ["", "", "not run"]
            yield f"| {' | '.join(cells)} |"


def judged(claim: dict[str, Any]) -> list[str]:
    """Difference, p and verdict of a claim on a base."""
    low, high = claim["interval"]
    verdict = f"**{claim['verdict']}**" if claim["verdict"] == "holds" else claim["verdict"]
    return [f"{claim['difference']:+.3f} [{low:+.3f}, {high:+.3f}]", f"{claim['p_holm']:.3f}", verdict]


def pairs(rows: Rows) -> Iterator[str]:
    """Differences of pairs over the seeds that both have; intervals over starters alone, nothing corrected."""
    scores = [s for s in PARTS if s in rows[NLL].values]
    yield f"| model | less | seeds | {' | '.join(f'{s} | p' for s in scores)} |"
    yield "|---" * (3 + 2 * len(scores)) + "|"
    for first, second in PAIRS:
        if first in rows and second in rows:
            n = min(len(rows[first].seeds), len(rows[second].seeds))
            cells = []
            for s in scores:
                own, ref = (rows[name].values[s][:n].mean(0) for name in (first, second))
                cells += [difference(own, ref), f"{paired_p_value(own, ref):.4f}"]
            yield f"| {first} | {second} | {n} | {' | '.join(cells)} |"


def along(rows: Rows) -> Iterator[str]:
    """Each response's distance from u1 and its valence, less NLL's; starters averaged over the seeds."""
    names = (NLL, *(x for x in LOSSES if x in rows))
    said = {x: spoken(rows[x]) for x in names}
    far = {x: np.abs(v - v[:, :, :1]).sum(-1).mean(0) for x, v in said.items()}  # (starters, utterances)
    bright = {x: v[..., 0].mean(0) for x, v in said.items()}
    n_half = rows[NLL].dialogs(rows[NLL].seeds[0])[0].n_half
    heads = (NLL, *(f"{x} less it" for x in names[1:]))
    yield f"| c | f(c) | in Eq. 8 | distance from u1, {' | '.join(heads)} | valence, {' | '.join(heads)} |"
    yield "|---" * (3 + 2 * len(heads)) + "|"
    for k, c in enumerate(range(1, far[NLL].shape[1], 2)):
        cells = [str(c), f"{float(context_weight(c, 0.0)):+.2f}", "yes" if k < n_half else ""]
        for by in (far, bright):
            cells += [f"{by[NLL][:, c].mean():.3f}", *(difference(by[x][:, c], by[NLL][:, c]) for x in names[1:])]
        yield f"| {' | '.join(cells)} |"


def by_emotion(rows: Rows) -> Iterator[str]:
    """What the loss changes where the starter is of each emotion; starters averaged over the seeds."""
    first = rows[NLL].dialogs(rows[NLL].seeds[0])
    emotion_of = {d.id: starter_emotion(d) for d in load_starters(str(first[0].lang))}
    emotions = np.array([emotion_of[id] for id in sorted(d.id for d in first)])

    def valence(row: RowResult) -> np.ndarray:
        return spoken(row)[:, :, 1 : 2 * first[0].n_half : 2, 0].mean((0, 2))

    yield f"| model | less | score | {' | '.join(f'{x} ({sum(emotions == x)} starters)' for x in CLASSES)} |"
    yield "|---" * (3 + len(CLASSES)) + "|"
    for name, ref in (pair for pair in SPLIT if all(x in rows for x in pair)):
        both = [rows[x] for x in (name, ref)]
        scores = {s: [r.values[s].mean(0) for r in both] for s in ("e", "unseen_lexicon.e", "peg")}
        scores["valence of responses in Eq. 8"] = [valence(r) for r in both]
        for score, (x, y) in scores.items():
            cells = [difference(x[emotions == e], y[emotions == e]) for e in CLASSES]
            yield f"| {name} | {ref} | {score} | {' | '.join(cells)} |"


def spoken(row: RowResult) -> np.ndarray:
    """VAD of what was said, (seeds, starters, utterances, 3), the starters by id as in a row's values."""
    talks = [sorted(row.dialogs(seed), key=lambda d: str(d.id)) for seed in row.seeds]
    lang = str(talks[0][0].lang)
    lexicon = load_lexicon(f"pege-{lang}")
    n = min(len(d.messages) for talk in talks for d in talk)
    vads = utterance_vads([t for talk in talks for d in talk for t in d.texts[:n]], lexicon, lang)
    return np.where(np.isnan(vads), lexicon.mean, vads).reshape(len(talks), len(talks[0]), n, 3)


def doses(rows: Rows) -> Iterator[str]:
    """Scores by the weights of the loss, the first seed of each."""
    scores = ("peg", "e", "pege", "unseen_lexicon.pege", "classifier.p_positive_end", "repetition.rep_4")
    scores = tuple(s for s in scores if s in rows[NLL].values)
    yield f"| alpha, beta times | {' | '.join(scores)} | perplexity | Distinct-2 |"
    yield "|---" * (3 + len(scores)) + "|"
    for name, times in DOSES.items():
        if row := rows.get(name):
            cells = [f"{row.values[s][0].mean():+.3f}" for s in scores]
            perplexity = "" if row.perplexity is None else f"{row.perplexity:.2f}"
            yield f"| {times} | {' | '.join(cells)} | {perplexity} | {row.tables[0]['distinct']['distinct_2']:.3f} |"


def lengths(rows: Rows) -> Iterator[str]:
    """E-Score less PEGE's, as said, and with both cut to the shorter utterance at each place; seeds averaged."""
    yield "| model | words an utterance | E-Score | less PEGE's | p | both cut to the shorter | p |"
    yield "|---|---|---|---|---|---|---|"
    row = rows["PEGE"]
    talks = {seed: row.dialogs(seed) for seed in row.seeds}
    lang = talks[row.seeds[0]][0].lang or "en"
    lexicon, words_of = load_lexicon(f"pege-{lang}"), segmenter(lang)

    def shortened(dialog: Dialog, as_long: Dialog) -> Dialog:
        texts = []
        for k, (text, other) in enumerate(zip(dialog.texts, as_long.texts, strict=True)):
            words, n = words_of(text), max(1, len(words_of(other)))  # one without words would leave no utterance
            texts.append(" ".join(words[:n]) if k % 2 and n < len(words) else text)
        return make_dialog(texts, id=dialog.id, lang=lang)

    def closeness(dialogs: Sequence[Dialog]) -> np.ndarray:
        return np.array([s.e for s in score_dialogs(dialogs, lexicon)])

    for name in (n for n in LENGTHS if n in rows):
        talked = [list(zip(rows[name].dialogs(seed), talks[seed], strict=True)) for seed in rows[name].seeds]
        n_words = np.mean([len(words_of(t)) for both in talked for a, _ in both for t in a.agent_utterances])
        own, ref = (np.mean([closeness([x[k] for x in both]) for both in talked], axis=0) for k in (0, 1))
        cells = [f"{n_words:.1f}", f"{own.mean():+.3f}"]
        if name != "PEGE":
            cut = np.mean([closeness([shortened(a, b) for a, b in both]) for both in talked], axis=0)
            cut_ref = np.mean([closeness([shortened(b, a) for a, b in both]) for both in talked], axis=0)
            for x, y in ((own, ref), (cut, cut_ref)):
                cells += [difference(x, y), f"{paired_p_value(x, y):.4f}"]
        yield f"| {name} | {' | '.join(cells)} |" + " | | | |" * (name == "PEGE")


def trivial(rows: Rows) -> Iterator[str]:
    """PEGE-Score and what should catch agents without a model, beside PEGE, seeds averaged."""
    names = [n for n in (*TRIVIAL, "PEGE", NLL) if n in rows]
    scores = [s for s in CATCHERS if all(s in rows[n].values for n in names)]
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


def trade(rows: dict[str, Rows]) -> Iterator[str]:
    """How PEG- and E-Score go together, over the means of rows and the dialogs of each; those without a model aside."""
    heads = (
        "r of their means | without weights times 4 | E-Score for 0.01 of PEG-Score | r over a row's dialogs, from - to"
    )
    yield f"| base | models | {heads} |"
    yield "|---|---|---|---|---|---|"
    for base in BASES:
        names = [n for n in rows[base] if n not in TRIVIAL]
        both = [np.array([rows[base][n].values["peg"], rows[base][n].values["e"]]) for n in names]
        means = np.array([x.mean((1, 2)) for x in both])
        mild = [not n.endswith("x 4") for n in names]
        slope, _ = np.polyfit(*means.T, 1)
        within = [float(np.corrcoef(x.reshape(2, -1))[0, 1]) for x in both]
        cells = [
            f"{np.corrcoef(means.T)[0, 1]:+.2f}",
            f"{np.corrcoef(means[mild].T)[0, 1]:+.2f}",
            f"{0.01 * slope:+.4f}",
            f"{min(within):+.2f} - {max(within):+.2f}",
        ]
        yield f"| {base} | {len(both)} | {' | '.join(cells)} |"


def people(bases: Mapping[str, Base], folder: Path) -> Iterator[str]:
    """The paper's scores of the dialogs that were learned: of people, none of them a model's."""
    yield "| score | base | PosEmoDial (dialogs) | random data (dialogs) | difference, 95 % interval (Welch) | p |"
    yield "|---|---|---|---|---|---|"
    for base in BASES:
        both = []
        for kind in ("filtered", "random"):
            dialogs = read_rows(folder / bases[base].corpora[kind] / "train", Dialog)
            both.append(score_dialogs(dialogs, load_lexicon(f"pege-{bases[base].language}")))
        for score in ("peg", "e", "pege"):
            found, plain = (np.array([getattr(s, score) for s in scores]) for scores in both)
            welch = scipy.stats.ttest_ind(found, plain, equal_var=False)
            low, high = welch.confidence_interval()
            cells = [f"{x.mean():+.3f} ({len(x):,})" for x in (found, plain)]
            cells += [f"{found.mean() - plain.mean():+.3f} [{low:+.3f}, {high:+.3f}]", f"{welch.pvalue:.2g}"]
            yield f"| `{score}` | {base} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/reproduce"))
