"""Write docs/results/main-path.md from the runs of main-path.sh: `python docs/results/main_path.py [RUNS]`.

NLL and PEGE are compared seed by seed, and over both seeds: there the values of a starter are averaged over the seeds
first, so that the test counts each starter once.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pege.dialog import Dialog
from pege.io import read_rows, write_text
from pege.lexicon import load_lexicon
from pege.metrics.interval import N_RESAMPLES, mean_interval, paired_p_value
from pege.metrics.pege import score_dialogs, utterance_vad
from pege.metrics.table import Options, columns, companions, score_table
from pege.metrics.text import distinct
from pege.words import segmenter

SEEDS = (0, 1)
SYSTEMS = ("nll", "pege")
NAMES = {
    "peg": "PEG-Score", "e": "E-Score", "pege": "PEGE-Score", "unseen_lexicon.peg": "PEG-Score, unseen lexicon",
    "unseen_lexicon.e": "E-Score, unseen lexicon", "unseen_lexicon.pege": "PEGE-Score, unseen lexicon",
    "classifier.p_positive_end": "P(positive) of the user's last utterance, unseen classifier",
}  # fmt: skip
N_SAMPLES = 4
HOT, COOL = "selfchat.jsonl", "selfchat-cool.jsonl"  # at the temperature of main-path.sh, and at 0.5


def values_of(dialogs: Sequence[Dialog], options: Options) -> dict[str, np.ndarray]:
    """Per-dialog values of all scores, in the order of the dialogs."""
    found = columns(score_dialogs(dialogs, load_lexicon("pege-en"), language="en"))
    for name, companion in companions(dialogs, options, "en").items():
        found |= {f"{name}.{k}": v for k, v in companion["values"].items()}
    return found


def score_rows(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> Iterator[str]:
    """Rows of a table: PEGE, NLL, difference with interval and p."""
    for key, label in NAMES.items():
        x, y = a[key], b[key]
        yield f"| {label} | {x.mean():+.3f} | {y.mean():+.3f} | {difference(x, y)} | {paired_p_value(x, y):.4f} |"


HEAD = "| score | PEGE | NLL | PEGE - NLL, 95 % interval | p |\n|---|---|---|---|---|"


Key = tuple[str, int]  # system, seed
Values = dict[str, np.ndarray]


def main(runs: Path) -> None:
    """Read the runs, write the page."""
    here = Path(__file__).parent
    data = Path(os.environ.get("PEGE_DATA", "../shared/data"))
    options = Options(
        unseen_lexicon=load_lexicon(data / "lexicons" / "nrc-vad-2.1.en.tsv.gz"), classifier=Path("runs/unseen-en")
    )
    dialogs = {(s, k): read_dialogs(runs, f"{s}-{k}") for s in SYSTEMS for k in SEEDS}
    values = {key: values_of(rows, options) for key, rows in dialogs.items()}
    lines = [
        "# NLL against PEGE on real dialogs, two seeds", "",
        (here / "main-path.intro.md").read_text(encoding="utf-8").strip(), "",
        "## Over both seeds (the mean of a starter's dialogs counts once, 100 pairs)", "", HEAD,
        *score_rows(*({n: np.mean([values[s, k][n] for k in SEEDS], axis=0) for n in NAMES} for s in ("pege", "nll"))),
    ]  # fmt: skip
    for k in SEEDS:
        lines += ["", f"## Seed {k} (100 pairs)", "", HEAD, *score_rows(values["pege", k], values["nll", k])]
    lines += ["", "## By the starter's emotion, over both seeds", "", *by_emotion(dialogs["pege", 0], values)]
    lines += ["", "## Training and fluency", "", *fluency(runs, dialogs)]
    lines += ["", "## Along the dialog, both seeds", "", *along(dialogs)]
    lines += ["", "## Other weights, other decoding, seed 0", "", *variants(runs, options)]
    lines += ["", "## Both at temperature 0.5, over both seeds (100 pairs)", "", HEAD, *cool(runs, options)]
    lines += ["", "## Signatures", "", *signatures(dialogs["pege", 0], options), ""]
    lines += [(here / "main-path.why.md").read_text(encoding="utf-8").strip(), ""]
    lines += [f"## Sample dialogs, {N_SAMPLES} starters drawn by seed, not by us", ""]
    lines += samples(dialogs["nll", 0], dialogs["pege", 0])
    write_text(here / "main-path.md", "\n".join(lines) + "\n")


def read_dialogs(runs: Path, run: str, file: str = HOT) -> list[Dialog]:
    """Dialogs of a run's self-chat."""
    return list(read_rows(runs / run / file, Dialog))


def by_emotion(rows: Sequence[Dialog], values: dict[Key, Values]) -> Iterator[str]:
    """Differences by the starter's emotion."""
    emotions = np.array([str((d.model_extra or {})["starter_emotion"]) for d in rows])
    yield "| starts | n | PEG-Score, PEGE - NLL | E-Score, PEGE - NLL | P(positive), PEGE - NLL |"
    yield "|---|---|---|---|---|"
    for emotion in ("negative", "neutral", "positive"):
        chosen = emotions == emotion
        cells = []
        for name in ("peg", "e", "classifier.p_positive_end"):
            x, y = (np.mean([values[s, k][name] for k in SEEDS], axis=0)[chosen] for s in ("pege", "nll"))
            cells.append(f"{difference(x, y)}, p {paired_p_value(x, y):.3f}")
        yield f"| {emotion} | {chosen.sum()} | " + " | ".join(cells) + " |"


def fluency(runs: Path, dialogs: dict[Key, list[Dialog]]) -> Iterator[str]:
    """Perplexity, Distinct, and how often the user falls out of its role."""
    yield "| run | validation perplexity | Distinct-1 | Distinct-2 | user consoles the agent |"
    yield "|---|---|---|---|---|"
    for (s, k), rows in dialogs.items():
        metrics = read_json(runs / f"{s}-{k}" / "metrics.json")
        about = read_json(runs / f"{s}-{k}" / "selfchat.jsonl.run.json")
        d1, d2 = (distinct(rows, n, language="en") for n in (1, 2))
        yield (
            f"| {s.upper()}, seed {k} | {metrics['validation_perplexity']:.2f} | {d1:.3f} | {d2:.3f} "
            f"| {about['consoling_share']:.3f} |"
        )


#: run, file of its self-chat, NLL's run -> what it is
VARIANTS = {
    ("pege-0", HOT, "nll-0"): "α = 5, β = 2 (the paper's)",
    ("peg-0", HOT, "nll-0"): "α = 5, β = 0: Eq. 3 alone",
    ("ner-0", HOT, "nll-0"): "α = 0, β = 2: Eq. 4 alone",
    ("strong-0", HOT, "nll-0"): "α = 20, β = 8",
    ("turns-0", HOT, "nll-0"): "α = 5, β = 2, c in turns",
    ("pege-fast-0", HOT, "nll-fast-0"): "α = 5, β = 2; both at twice the learning rate",
    ("pege-0", COOL, "nll-0"): "α = 5, β = 2; both at temperature 0.5",
}


def variants(runs: Path, options: Options) -> Iterator[str]:
    """Each variant less NLL with the same decoding."""
    yield "| run | PEG-Score | E-Score | PEGE-Score | PEGE, unseen lexicon | P(positive) | perplexity | Distinct-2 |"
    yield "|---|---|---|---|---|---|---|---|"
    baselines = {(r, f): values_of(read_dialogs(runs, r, f), options) for r, f in {(r, f) for _, f, r in VARIANTS}}
    names = ("peg", "e", "pege", "unseen_lexicon.pege", "classifier.p_positive_end")
    for (run, file, baseline), label in VARIANTS.items():
        rows = read_dialogs(runs, run, file)
        x, y = values_of(rows, options), baselines[baseline, file]
        cells = [f"{difference(x[n], y[n])}, p {paired_p_value(x[n], y[n]):.3f}" for n in names]
        perplexity = read_json(runs / run / "metrics.json")["validation_perplexity"]
        yield f"| {label} | {' | '.join(cells)} | {perplexity:.2f} | {distinct(rows, 2, language='en'):.3f} |"
    yield ""
    yield "Differences from NLL of the same seed and decoding, with 95 % intervals; p uncorrected."


def cool(runs: Path, options: Options) -> Iterator[str]:
    """The comparison over both seeds, with decoding nearer to the mode."""
    values = {(s, k): values_of(read_dialogs(runs, f"{s}-{k}", COOL), options) for s in SYSTEMS for k in SEEDS}
    yield from score_rows(
        *({n: np.mean([values[s, k][n] for k in SEEDS], axis=0) for n in NAMES} for s in ("pege", "nll"))
    )
    yield ""
    for k in SEEDS:
        a, b = values["pege", k], values["nll", k]
        names = ("peg", "e", "pege", "unseen_lexicon.pege", "classifier.p_positive_end")
        cells = [f"{NAMES[n]} {difference(a[n], b[n])}, p {paired_p_value(a[n], b[n]):.3f}" for n in names]
        yield f"Seed {k}: {'; '.join(cells)}."
        yield ""
    distincts = [f"{s.upper()} {distinct(read_dialogs(runs, f'{s}-0', COOL), 2, language='en'):.3f}" for s in SYSTEMS]
    yield f"Distinct-2, seed 0: {', '.join(distincts)}."


def difference(x: np.ndarray, y: np.ndarray) -> str:
    """Mean difference with its interval."""
    low, high = mean_interval(x - y)
    return f"{(x - y).mean():+.3f} [{low:+.3f}, {high:+.3f}]"


def signatures(rows: Sequence[Dialog], options: Options) -> list[str]:
    """What pins the scores."""
    table, _ = score_table(rows, options)
    found = [table["signature"], *(table["companions"][n]["signature"] for n in ("unseen_lexicon", "classifier"))]
    how = "Intervals: percentile bootstrap; p: two-sided paired permutation test"
    return [*(line for s in found for line in (f"`{s}`", "")), f"{how}; {N_RESAMPLES} resamples, seed 0."]


def along(dialogs: dict[tuple[str, int], list[Dialog]]) -> Iterator[str]:
    """What the loss asks of each of the agent's utterances, and what its words did."""
    lexicon, cut = load_lexicon("pege-en"), segmenter("en")

    def vad(text: str) -> np.ndarray:
        found = utterance_vad(text, lexicon, cut)
        return lexicon.mean if found is None else found

    said = {s: np.array([[[vad(t) for t in d.texts] for d in dialogs[s, k]] for k in SEEDS]) for s in SYSTEMS}
    shown = ("distance from u1, NLL", "PEGE", "PEGE - NLL", "agent's valence, NLL", "PEGE", "PEGE - NLL")
    yield f"| c | f(c) | in Eq. 8 | {' | '.join(shown)} |"
    yield "|---|---|---|---|---|---|---|---|---|"
    n_first_half = dialogs["nll", 0][0].n_half
    for j in range(said["nll"].shape[2] // 2):
        c = 2 * j + 1
        far = {s: np.abs(v[:, :, c] - v[:, :, 0]).sum(-1).mean(0) for s, v in said.items()}  # (starters,)
        bright = {s: v[:, :, c, 0].mean(0) for s, v in said.items()}
        cells = []
        for by in (far, bright):
            cells.append(f"{by['nll'].mean():.3f} | {by['pege'].mean():.3f} | {difference(by['pege'], by['nll'])}")
        f = math.cos(math.pi * min(c, 7) / 7)
        yield f"| {c} | {f:+.2f} | {'yes' if j < n_first_half else ''} | {cells[0]} | {cells[1]} |"
    slopes = []
    for s, v in said.items():
        agent, user = v[:, :, 1:-1:2, 0].ravel(), v[:, :, 2::2, 0].ravel()
        slopes.append(f"{s.upper()} {np.polyfit(agent, user, 1)[0]:.2f} (r {np.corrcoef(agent, user)[0, 1]:.2f})")
    yield ""
    yield f"Valence of the user's next utterance on that of the agent's, slope: {', '.join(slopes)}."


def samples(nll: Sequence[Dialog], pege: Sequence[Dialog]) -> Iterator[str]:
    """Both systems' dialogs of a few starters."""
    for k in sorted(np.random.default_rng(0).permutation(len(nll))[:N_SAMPLES]):
        for name, dialog in (("NLL", nll[k]), ("PEGE", pege[k])):
            yield f"**{name}**, `{dialog.id}`"
            yield ""
            yield from (f"- {('user', 'agent')[j % 2]}: {text}" for j, text in enumerate(dialog.texts))
            yield ""


def read_json(path: Path) -> Any:
    """One JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/main-path"))
