"""Write docs/results/models.md from the runs of models.sh: `python docs/results/models.py [MODELS] [STUDY]`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pege.dialog import Dialog
from pege.io import read_json, read_lines, read_rows, write_text

HERE = Path(__file__).parent
ROWS = ("MoEL", "MIME", "PLATO-2", "PLATO-2-FT", "PEGE")
PHASES = {"plato-mini-rest": "all that follows in one piece", "plato-mini": "a response a sample"}
N_SAMPLES = 6
MAX_CHARS = 160  # of a shown utterance


def main(models: Path, study: Path) -> None:
    """Read the runs, write the page."""
    lines = [
        "# The paper's models on real dialogs",
        "",
        (HERE / "models.intro.md").read_text(encoding="utf-8").strip(),
        "",
    ]
    lines += ["## Responses to held-out contexts", "", *static(study), ""]
    lines += ["## plato-mini while it learned", "", *curve(models), ""]
    lines += [f"## Responses to {N_SAMPLES} contexts, drawn by seed, not by us", "", *samples(study)]
    write_text(HERE / "models.md", "\n".join(lines) + "\n")


def static(study: Path) -> Iterator[str]:
    """BLEU, Distinct, perplexity, a row a model."""
    yield "| model | trained on | steps | perplexity | BLEU-1 | BLEU-2 | Distinct-1 | Distinct-2 |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in ROWS:
        folder = study / "runs" / "plato-mini" / row / "0"
        table, trained = read_json(folder / "static.json"), folder / "metrics.json"
        metrics = read_json(trained) if trained.is_file() else {}
        cells = [measured(table["bleu"], f"bleu_{n}", ".2f") for n in (1, 2)]
        cells += [measured(table["distinct"], f"distinct_{n}", ".3f") for n in (1, 2)]
        perplexity = read_json(folder / "perplexity.json")["perplexity"]
        samples = f"{metrics['n_dialogs']:,} samples" if metrics else "raw dialogs only"
        steps = f"{metrics['n_steps']:,}" if metrics else ""
        yield f"| {row} | {samples} | {steps} | {perplexity:.1f} | {' | '.join(cells)} |"
    yield ""
    yield f"{table['bleu']['n_responses']:,} responses in {table['n_dialogs']} dialogs of the validation part."
    for signature in (*(table["bleu"][f"signature_{n}"] for n in (1, 2)), table["distinct"]["signature"]):
        yield ""
        yield f"`{signature}`"


def curve(models: Path) -> Iterator[str]:
    """Loss of training and validation by step."""
    yield "| phase | step | NLL of the training steps before | validation perplexity |"
    yield "|---|---|---|---|"
    for run, phase in PHASES.items():
        rows: list[dict[str, Any]] = [dict(r) for _, r in read_lines(models / run / "log.jsonl")]  # type: ignore[arg-type]
        trained = [(r["step"], r["nll"]) for r in rows if "nll" in r]
        last = 0
        for r in (r for r in rows if "eval_perplexity" in r):
            before = [nll for step, nll in trained if last < step <= r["step"]]
            if before:
                yield f"| {phase} | {r['step']:,} | {np.mean(before):.3f} | {r['eval_perplexity']:.1f} |"
            last = r["step"]


def samples(study: Path) -> Iterator[str]:
    """The same contexts and what each model says."""
    runs = {row: study / "runs" / "plato-mini" / row / "0" / "answers.jsonl" for row in ROWS}
    answers = {row: list(read_rows(path, Dialog)) for row, path in runs.items()}
    real = {d.id: d for d in read_rows(study / "corpora" / "zh" / "validation", Dialog)}
    first = answers["PEGE"]
    for k in sorted(np.random.default_rng(0).permutation(len(first))[:N_SAMPLES].tolist()):
        context = next(real[first[k].id].contexts())
        yield f"**{cut(context.utterances[-1].content)}**"
        yield ""
        yield f"- real: {cut(str(context.response))}"
        yield from (f"- {row}: {cut(answers[row][k].agent_utterances[0])}" for row in ROWS)
        yield ""


def cut(text: str) -> str:
    """One line of bounded length."""
    plain = " ".join(text.split())
    return plain if len(plain) <= MAX_CHARS else plain[:MAX_CHARS] + "..."


def measured(table: dict[str, Any], name: str, form: str) -> str:
    """A score with its interval."""
    low, high = table["ci"][name]
    return f"{table[name]:{form}} [{low:{form}}, {high:{form}}]"


if __name__ == "__main__":
    names = [*sys.argv[1:], "runs/models", "runs/reproduce"][: max(2, len(sys.argv) - 1)]
    main(*map(Path, names))
