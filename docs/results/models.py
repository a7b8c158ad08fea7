"""Write docs/results/models.md from the runs of models.sh: `python docs/results/models.py [RUNS]`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pege.dialog import Dialog
from pege.io import read_json, read_lines, read_rows, write_text

HERE = Path(__file__).parent
NAMES = {
    "moel": "MoEL",
    "mime": "MIME",
    "plato-mini": "PLATO-2 (plato-mini)",
    "nll-plato2": "PLATO-2-FT",
    "pege-plato2": "PEGE",
}
N_SAMPLES = 6
MAX_CHARS = 160  # of a shown utterance


def main(runs: Path) -> None:
    """Read the runs, write the page."""
    lines = [
        "# The paper's models on real dialogs",
        "",
        (HERE / "models.intro.md").read_text(encoding="utf-8").strip(),
        "",
    ]
    lines += ["## Static: responses to real contexts", "", *static(runs), ""]
    lines += ["## Self-chat", "", *chats(runs), ""]
    lines += ["## plato-mini while it learned", "", *curve(runs), ""]
    lines += [f"## Responses to {N_SAMPLES} contexts, drawn by seed, not by us", "", *samples(runs)]
    write_text(HERE / "models.md", "\n".join(lines) + "\n")


def static(runs: Path) -> Iterator[str]:
    """BLEU, Distinct, perplexity, a row a model."""
    yield "| model | steps | perplexity | BLEU-1 | BLEU-2 | Distinct-1 | Distinct-2 |"
    yield "|---|---|---|---|---|---|---|"
    for run, name in NAMES.items():
        metrics, table = read_json(runs / run / "metrics.json"), read_json(runs / run / "static.json")
        cells = [measured(table["bleu"], f"bleu_{n}", ".2f") for n in (1, 2)]
        cells += [measured(table["distinct"], f"distinct_{n}", ".3f") for n in (1, 2)]
        perplexity = metrics["validation_perplexity"] if run != "plato-mini" else read_json(runs / run / "zh.json")
        yield f"| {name} | {metrics['n_steps']:,} | {perplexity:.1f} | {' | '.join(cells)} |"
    table = read_json(runs / "pege-plato2" / "static.json")
    yield ""
    yield f"{table['bleu']['n_responses']:,} responses in {table['n_dialogs']} dialogs of the validation part."
    for signature in (*(table["bleu"][f"signature_{n}"] for n in (1, 2)), table["distinct"]["signature"]):
        yield ""
        yield f"`{signature}`"


def chats(runs: Path) -> Iterator[str]:
    """PEG-, E- and PEGE-Score of the self-chats."""
    yield "| model | PEG-Score | E-Score | PEGE-Score | Distinct-2 |"
    yield "|---|---|---|---|---|"
    for run, name in NAMES.items():
        table = read_json(runs / run / "score.json")
        cells = [measured(table, s, "+.3f") for s in ("peg", "e", "pege")]
        yield f"| {name} | {' | '.join(cells)} | {measured(table['distinct'], 'distinct_2', '.3f')} |"
    yield ""
    yield f"`{read_json(runs / 'pege-plato2' / 'score.json')['signature']}`"


def curve(runs: Path) -> Iterator[str]:
    """Loss of training and validation by step."""
    rows: list[dict[str, Any]] = [dict(r) for _, r in read_lines(runs / "plato-mini" / "log.jsonl")]  # type: ignore[arg-type]
    trained = [(r["step"], r["nll"]) for r in rows if "nll" in r]
    yield "| step | NLL of the 50 logged steps before | validation perplexity |"
    yield "|---|---|---|"
    for r in rows:
        if "eval_perplexity" in r:
            before = [nll for step, nll in trained if r["step"] - 500 < step <= r["step"]]
            yield f"| {r['step']:,} | {np.mean(before):.3f} | {r['eval_perplexity']:.1f} |"


def samples(runs: Path) -> Iterator[str]:
    """The same contexts and what each model says."""
    answers = {run: list(read_rows(runs / run / "answers.jsonl", Dialog)) for run in NAMES}
    real = {d.id: d for d in read_rows(runs / "zh" / "validation", Dialog)}
    first = answers["pege-plato2"]
    for k in sorted(np.random.default_rng(0).permutation(len(first))[:N_SAMPLES].tolist()):
        context = next(real[first[k].id].contexts())
        yield f"**{cut(context.utterances[-1].content)}**"
        yield ""
        yield f"- real: {cut(str(context.response))}"
        yield from (f"- {name}: {cut(answers[run][k].agent_utterances[0])}" for run, name in NAMES.items())
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
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/models"))
