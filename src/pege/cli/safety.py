"""``pege safety``: check lines, train the crisis classifier, measure the check."""

from __future__ import annotations

import json as jsonlib
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from pege.io import text_lines
from pege.safety import judge

app = App(name="safety", help="The crisis check that runs before any model.")
app.default_parameter = Parameter(negative=(), consume_multiple=True)


@app.command
def check(*, json: bool = False) -> None:
    """Check each line of standard input; one line out for each line in.

    Args:
        json: print one JSON object a line: crisis, kind, score.
    """
    for line in text_lines(sys.stdin.buffer, max_bytes=4_000_000):
        found = judge(line)
        kind = found.crisis.kind if found.crisis else None
        if json:
            row = {"crisis": found.crisis is not None, "kind": kind, "score": round(found.score, 4)}
            print(jsonlib.dumps(row), flush=True)
        else:
            print(kind or "-", flush=True)


@app.command
def train(
    files: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)],
    /,
    *,
    output: Path,
    background: Path | None = None,
    recall: float = 0.9,
    seed: int = 0,
) -> None:
    """Train the crisis classifier on labelled lines.

    Args:
        files: label<TAB>text, .tsv or .tsv.gz; labels none, self-harm, harm-to-others, abuse.
        output: the .safetensors file to write.
        background: the same, of ordinary lines; its labels are not read (examples/safety_background.py).
        recall: share of the crises that the threshold must find, over held-out folds.
        seed: of the folds.
    """
    from pege.emotion import read_labelled
    from pege.safety.classifier import LABELS
    from pege.safety.train import train_classifier

    lines = read_labelled(files, labels=LABELS)
    ordinary = read_labelled(background, labels=LABELS).texts if background else []
    found = train_classifier(lines.texts, lines.classes, output, background=ordinary, recall=recall, seed=seed)
    print(jsonlib.dumps(found))


@app.command(name="eval")
def evaluate_command(
    files: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)], /, *, json: bool = False
) -> None:
    """Measure the check, phrases and classifier, on labelled lines.

    Args:
        files: label<TAB>text, .tsv or .tsv.gz; labels none, self-harm, harm-to-others, abuse.
        json: print one JSON object.
    """
    from pege.emotion import read_labelled
    from pege.safety.classifier import LABELS, load_classifier
    from pege.safety.train import evaluate

    lines = read_labelled(files, labels=LABELS)
    found = {"threshold": round(load_classifier().threshold, 4), **evaluate(lines.texts, lines.classes)}
    if json:
        print(jsonlib.dumps(found))
        return
    print(f"threshold {found['threshold']}")
    for language in ("en", "zh", "all"):
        if language in found:
            _print_figures(language, found[language], found["labels"])


def _print_figures(language: str, row: dict[str, Any], labels: list[str]) -> None:
    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    kinds = "  ".join(f"{kind} {shown(value)}" for kind, value in row["recall_by_kind"].items())
    print(f"\n{language}  n {row['n']}  recall {shown(row['recall'])} ({kinds})")
    print(f"false alarms {shown(row['false_alarms'])}  recall of the phrases alone {shown(row['phrases_recall'])}")
    print("rows: true, columns: found\n" + " " * 16 + "".join(f"{c:>16}" for c in labels))
    for label, counts in zip(labels, row["confusion"], strict=True):
        print(f"{label:>16}" + "".join(f"{n:>16d}" for n in counts))
