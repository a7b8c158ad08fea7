"""A corpus described: a dataset card in the hub's format, with plots of lengths and of valence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pege.corpus.read import EMOTIONS, corpus_rows, corpus_stats, read_report, start_of
from pege.dialog import Dialog
from pege.io import read_json, read_yaml, write_atomic, write_text
from pege.lexicon import Lexicon, load_lexicon, mean_vad
from pege.words import segmenter

_COLOURS = {"negative": "#b04a3b", "neutral": "#6b7280", "positive": "#2f7d4f"}


def write_card(folder: Path, *, name: str, licence: str) -> Path:
    """Write ``README.md`` (the hub's dataset card), ``lengths.png`` and ``valence.png`` into a corpus folder.

    Args:
        folder: of a corpus.
        name: of the dataset.
        licence: its identifier on the hub; only whoever holds the rights can name it.

    Raises:
        InputError: no such corpus.
    """
    report = read_report(folder)
    dialogs = list(corpus_rows(folder))
    stats = corpus_stats(dialogs)
    _plot_lengths(dialogs, folder / "lengths.png")
    _plot_valence(dialogs, folder / "valence.png")
    write_text(folder / "README.md", _card(folder, report, stats, name, licence))
    return folder / "README.md"


_SIZES = (("n<1K", 1e3), ("1K<n<10K", 1e4), ("10K<n<100K", 1e5), ("100K<n<1M", 1e6), ("1M<n<10M", 1e7))  # the hub's


def _front_matter(stats: dict[str, Any], name: str, licence: str) -> str:
    n = stats["n_sessions"]
    head = {
        "pretty_name": name,
        "license": licence,
        "language": sorted(stats["languages"]),
        "task_categories": ["text-generation"],
        "tags": ["dialog", "empathy", "emotion", "conversational"],
        "size_categories": [next((s for s, bound in _SIZES if n < bound), "n>10M")],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": s, "path": f"{s}/*.parquet"} for s in ("train", "validation")],
            }
        ],
    }
    return yaml.safe_dump(head, sort_keys=False, allow_unicode=True)


def _card(folder: Path, report: dict[str, Any], stats: dict[str, Any], name: str, licence: str) -> str:
    n = stats["n_sessions"]
    config = {k: v for k, v in read_yaml(folder / "config.yaml").items() if k != "input"}
    versions = read_json(folder / "versions.json")
    rows = "\n".join(
        f"| {c} | {stats['sessions'].get(c, 0)} | {stats['utterances'].get(c, 0)} "
        f"| {stats['utterances_a_session'].get(c, 0):.1f} |"
        for c in EMOTIONS
    )
    reasons = "\n".join(f"| `{reason}` | {count} |" for reason, count in report["dropped"].items())
    return f"""---
{_front_matter(stats, name, licence)}---

# {name}

Two-person dialogs that start in some emotion and end well, for multi-turn empathetic dialog with positive emotion
elicitation; built with [pege](https://pypi.org/project/pege/) after sec. 3 of *Towards Multi-Turn Empathetic Dialogs
with Positive Emotion Elicitation* (Wang et al. 2022). It is no clinical data; no model trained on it is a therapist.

## Rows

`id`, `lang`, `source`, `messages` (roles alternate, the user first), `emotion` (p(negative), p(neutral), p(positive)
of the first utterance, by `{report["classifier"]}`), `extra` (the source's own fields, JSON).
{"The user's last utterance, which the filters looked at, is left out." if config["delete_last"] else ""}

## Counts

| starts | sessions | utterances | a session |
|---|---|---|---|
{rows}
| all | {n} | {stats["n_utterances"]} | {stats["n_utterances"] / max(n, 1):.1f} |

{report["train"]} rows train, {report["validation"]} validation; sessions of one conversation are on one side.

![Utterances of a session](lengths.png)
![Valence of the first and the last utterance](valence.png)

## How it was made

{report["input"]} sessions were read: {report["kept"]} kept, {report["quarantined"]} no dialogs, and dropped for

| reason | sessions |
|---|---|
{reasons}

pege {versions.get("pege", "")}, daft {versions.get("daft", "")}; config:

```yaml
{yaml.safe_dump(config, sort_keys=False, allow_unicode=True)}```

## Limits

The filters are classifiers and lists: some personal data, offence or bad endings remain (`pege corpus audit` samples
them), and people who talk in other ways than the classifiers' training text are dropped more often.
"""


def _plot_lengths(dialogs: Sequence[Dialog], path: Path) -> None:
    figure, axes = _figure()
    longest = max((len(d.messages) for d in dialogs), default=1)
    edges = np.arange(0.5, longest + 1.5)
    groups = [[len(d.messages) for d in dialogs if start_of(d) == c] for c in EMOTIONS]
    axes.hist(groups, bins=edges.tolist(), stacked=True, color=[_COLOURS[c] for c in EMOTIONS], label=list(EMOTIONS))
    axes.set_xlabel("utterances of a session")
    axes.set_ylabel("sessions")
    axes.legend(frameon=False, title="starts")
    _save(figure, path)


def _plot_valence(dialogs: Sequence[Dialog], path: Path) -> None:
    """Valence of the first and the last utterance that the row holds, by starting emotion."""
    lexicons: dict[str, Lexicon] = {}
    pairs: dict[str, list[tuple[float, float]]] = {c: [] for c in EMOTIONS}
    for dialog in dialogs:
        lexicon = lexicons.setdefault(dialog.language, load_lexicon(f"pege-{dialog.language}"))
        cut = segmenter(dialog.language)
        first, last = (mean_vad(cut(t), lexicon) for t in (dialog.texts[0], dialog.texts[-1]))
        if first is not None and last is not None and start_of(dialog) in pairs:
            pairs[start_of(dialog)].append((float(first[0]), float(last[0])))
    figure, axes = _figure()
    for place, c in enumerate(EMOTIONS):
        if pairs[c]:
            data = [[p[k] for p in pairs[c]] for k in (0, 1)]
            boxes = axes.boxplot(
                data, positions=[3 * place, 3 * place + 1], widths=0.7, showfliers=False, patch_artist=True
            )
            for box in boxes["boxes"]:
                box.set(facecolor=_COLOURS[c], alpha=0.6)
    axes.set_xticks([3 * k + d for k in range(3) for d in (0, 1)])
    axes.set_xticklabels([f"{c}\n{w}" for c in EMOTIONS for w in ("first", "last")], fontsize=8)
    axes.set_ylabel("valence, mean over words (pege lexicons)")
    _save(figure, path)


def _figure() -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    with write_atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=140, metadata={"Software": None})
