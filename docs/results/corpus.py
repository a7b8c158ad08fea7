"""Write docs/results/corpus.md from the builds of corpus.sh: `python docs/results/corpus.py [BUILDS]`.

Shown texts are of sources whose licence lets them be passed on (chitchat_dataset, SMILECHAT, CPED, EmoLLM), and none of
a dialog that was dropped for personal data.
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from corpus_sample import read_side

from pege.corpus.read import EMOTIONS, corpus_rows, corpus_stats
from pege.io import read_json, write_text

HERE = Path(__file__).parent
BUILDS = {
    "strict": "dialogs, filter 1 as in the paper",
    "cut": "dialogs, `--trailing cut`",
    "threads": "as forum threads, `--trailing cut`",
}
SHOWN_SOURCES = ("chitchat", "smilechat", "cped", "emollm")
PERSONAL = ("person", "institution", "address", "phone", "email", "handle", "id-number")
MAX_CHARS = 120  # of a shown utterance


def main(folder: Path) -> None:
    """Read the builds, write the page."""
    reports = {name: read_json(folder / name / "report.json") for name in BUILDS}
    lines = ["# A corpus from all our dialogs", "", (HERE / "corpus.intro.md").read_text(encoding="utf-8").strip(), ""]
    lines += ["## Counts and reasons", "", *counts(reports), "", "## Table 2 of the paper", "", *table_2(folder), ""]
    lines += ["## The same dialogs as forum threads", "", *threads(folder), ""]
    lines += ["## Examples of each reason", "", *examples([folder / "cut", folder / "strict"]), ""]
    lines += ["## The hand check", "", *judged(folder), ""]
    lines += [(HERE / "corpus.notes.md").read_text(encoding="utf-8").strip()]
    write_text(HERE / "corpus.md", "\n".join(lines) + "\n")


def counts(reports: dict[str, Any]) -> Iterator[str]:
    """What became of the input, a column a build."""
    yield f"| | {' | '.join(BUILDS.values())} |"
    yield "|---|" + "---|" * len(reports)
    for key in ("conversations", "input", "kept", "train", "validation", "quarantined"):
        yield f"| {key} | {' | '.join(f'{r[key]:,}' for r in reports.values())} |"
    reasons = Counter({k: n for r in reversed(reports.values()) for k, n in r["dropped"].items()})
    for reason, _ in reasons.most_common():
        yield f"| `{reason}` | {' | '.join(format(r['dropped'].get(reason, 0), ',') for r in reports.values())} |"
    yield ""
    yield "`input` is `kept` + all reasons + `quarantined`. While it is built, each step's conversations are checked"
    yield "against those that the step before it left, and the input, which is not cut here, against the rows read."


def table_2(folder: Path) -> Iterator[str]:
    """Sessions and utterances by starting emotion."""
    yield "| build | starts | sessions | utterances | a session |"
    yield "|---|---|---|---|---|"
    for name in BUILDS:
        stats = corpus_stats(corpus_rows(folder / name))
        for emotion in (*EMOTIONS, "all"):
            n, m = (
                sum(stats[k].values()) if emotion == "all" else stats[k].get(emotion, 0)
                for k in ("sessions", "utterances")
            )
            yield f"| {name} | {emotion} | {n:,} | {m:,} | {m / max(n, 1):.1f} |"


def threads(folder: Path) -> Iterator[str]:
    """How many dialogs come back from the threads."""
    plain, again = ({"\n".join(d.texts) for d in corpus_rows(folder / name)} for name in ("cut", "threads"))
    both = plain & again
    yield (
        f"Of {len(plain):,} different dialogs that the build from dialogs keeps, the build from threads keeps "
        f"{len(both):,} word for word ({len(both) / len(plain):.2%}); not among them: {len(again - plain):,}."
    )


def examples(builds: list[Path]) -> Iterator[str]:
    """One dropped dialog a reason: what the rule or filter saw."""
    found: dict[str, str] = {}
    for row in (row for build in builds for row in read_side(build, "dropped")):
        reason, source = row["reason"], str(row["source"] or row["file"]).lower()
        if not source.startswith(SHOWN_SOURCES):
            found.setdefault(reason, f"| `{reason}` | | (of no source that may be shown) | |")
            continue
        if reason in found and "may be shown" not in found[reason]:
            continue
        k = row["utterance"]
        text = "" if reason in PERSONAL or k is None else " ".join(row["texts"][k].split())
        seen = "(not shown)" if reason in PERSONAL else str(row["detail"] or "").replace("|", "\\|")
        found[reason] = f"| `{reason}` | {row['id']} | {_short(text)} | {_short(seen)} |"
    yield "| reason | dialog | utterance | what was seen |"
    yield "|---|---|---|---|"
    yield from (found[r] for r in sorted(found))


def _short(text: str) -> str:
    return text.replace("|", "\\|")[:MAX_CHARS] + ("..." if len(text) > MAX_CHARS else "")


def judged(folder: Path) -> Iterator[str]:
    """What we judged in two rounds, how far the judge agrees with himself, and what became of the faults since."""
    with (HERE / "corpus.judged.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    now = {r["id"]: r["reason"] for r in read_side(folder / "strict", "dropped")}
    dropped, kept = ([r for r in rows if r["side"] == side] for side in ("dropped", "kept"))
    yield "| reason | dropped rightly, round 1 | round 2 | of the wrong ones, no longer dropped for it |"
    yield "|---|---|---|---|"
    for reason in sorted({r["reason"] for r in dropped}):
        wrong = {r["id"] for r in dropped if r["reason"] == reason and r["right"] == "0"}
        mended = sum(now.get(i) != reason for i in wrong)
        shares = " | ".join(_share(dropped, reason, k) for k in "12")
        yield f"| `{reason}` | {shares} | {f'{mended} of {len(wrong)}' if wrong else ''} |"
    yield ""
    yield "| flaw of a kept dialog | of 100, round 1 | round 2 | dropped now |"
    yield "|---|---|---|---|"
    for flaw, _ in Counter(flaw for r in kept for flaw in r["reason"].split()).most_common():
        ids = [{r["id"] for r in kept if r["round"] == k and flaw in r["reason"].split()} for k in "12"]
        yield f"| {flaw} | {len(ids[0])} | {len(ids[1])} | {sum(i in now for i in set.union(*ids))} |"
    none = [sum(r["right"] == "1" for r in kept if r["round"] == k) for k in "12"]
    yield f"| none | {none[0]} | {none[1]} | |"
    yield ""
    first, second = ({(r["side"], r["id"]): r["right"] for r in rows if r["round"] == k} for k in "12")
    both = first.keys() & second.keys()
    same = sum(first[k] == second[k] for k in both)
    yield f"{len(both)} dialogs were drawn in both rounds; {same} of them were judged alike."


def _share(rows: list[dict[str, str]], reason: str, k: str) -> str:
    """Right ones of those judged in a round; empty where none was drawn."""
    right = [r["right"] for r in rows if r["reason"] == reason and r["round"] == k]
    return f"{right.count('1')} of {len(right)}" if right else ""


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/corpus-all"))
