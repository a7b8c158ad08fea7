"""Draw the dialogs of the hand check: `python docs/results/corpus_sample.py BUILD kept|dropped [SEED]` prints them.

100 kept dialogs, the languages half and half; 100 dropped ones, spread over the reasons that a filter or a rule gives
(too few utterances or the wrong speaker at the end need no judge). The judgements are in corpus.judged.tsv.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pege.corpus.readers import read_raw

N = 100
COUNTED = ("ends-with-agent", "too-few", "too-many")  # no judgement: they are counted


def read_side(build: Path, *sides: str) -> list[dict[str, Any]]:
    """Rows of some parts of a build, in order."""
    files = [f for side in sides for f in sorted((build / side).glob("*.parquet"))]
    return [row for f in files for row in pq.read_table(f).to_pylist()]


def draw_kept(build: Path, *, seed: int = 0) -> list[dict[str, Any]]:
    """Half English, half Chinese."""
    rng, rows = np.random.default_rng(seed), read_side(build, "train", "validation")
    return [r for lang in ("en", "zh") for r in draw([r for r in rows if r["lang"] == lang], N // 2, rng)]


def draw_dropped(build: Path, *, seed: int = 0) -> list[dict[str, Any]]:
    """As many of each reason as there are, up to an even share."""
    rng, rows = np.random.default_rng(seed), read_side(build, "dropped")
    by_reason: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["reason"] not in COUNTED:
            by_reason.setdefault(row["reason"], []).append(row)
    quota, left = {}, N
    for place, (reason, found) in enumerate(sorted(by_reason.items(), key=lambda item: len(item[1]))):
        quota[reason] = min(len(found), left // (len(by_reason) - place))
        left -= quota[reason]
    return [r for reason in sorted(by_reason) for r in draw(by_reason[reason], quota[reason], rng)]


def draw(rows: Sequence[dict[str, Any]], n: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """N of some rows without repeats."""
    return [rows[k] for k in sorted(rng.choice(len(rows), size=min(n, len(rows)), replace=False))]


def shown(row: dict[str, Any]) -> Iterator[str]:
    """A dialog as lines; of a dropped one what the filter saw."""
    yield f"## {row['id']} ({row['lang']}) " + (f"{row['reason']} | {row['detail']}" if "reason" in row else "")
    for k, text in enumerate(row.get("texts") or [m["content"] for m in row["messages"]]):
        mark = ">>" if k == row.get("utterance") else "  "
        yield f"{mark} {'ua'[k % 2]}: {text}"
    if "reason" not in row:
        yield f">> u: {last_of(row['id'])}"


@functools.cache
def raw_ends() -> dict[str, str]:
    """The last utterance of each raw dialog, which a build leaves out of its rows."""
    data = Path(os.environ.get("PEGE_DATA", "../shared/data"))
    rows = read_raw([str(data / "dialogs" / "*.jsonl.gz"), "chitchat"])
    return {raw["id"]: raw["messages"][-1]["content"] for _, _, raw in rows if isinstance(raw, dict)}


def last_of(name: str) -> str:
    """The utterance that filter 3 looked at."""
    return raw_ends()[name]


if __name__ == "__main__":
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    rows = {"kept": draw_kept, "dropped": draw_dropped}[sys.argv[2]](Path(sys.argv[1]), seed=seed)
    print("\n".join(line for row in rows for line in shown(row)))
