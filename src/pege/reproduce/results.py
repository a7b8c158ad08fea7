"""What a study's folder holds, read back: scores a dialog, tables, and the dialogs themselves."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pege.dialog import Dialog
from pege.io import read_json, read_lines, read_rows
from pege.reproduce.config import Study
from pege.reproduce.plan import Step, run_folder

Values = NDArray[np.float64]


@dataclass(frozen=True)
class RowResult:
    """A row of one base.

    Attributes:
        name: of the row.
        seeds: those that were run.
        values: score -> (seeds, starters), the starters in the same order in all rows of a base.
        tables: of `pege score --json`, a seed each.
        static: of `pege score --references --json`, of the first seed; empty where it was not run.
        perplexity: of the first seed.
        folders: of the seeds' runs.
    """

    name: str
    seeds: tuple[int, ...]
    values: dict[str, Values]
    tables: tuple[dict[str, Any], ...]
    static: dict[str, Any]
    perplexity: float | None
    folders: tuple[Path, ...]

    def dialogs(self, seed: int) -> list[Dialog]:
        """Give the self-chat of a seed."""
        return list(read_rows(self.folders[self.seeds.index(seed)] / "selfchat.jsonl", Dialog))


def read_results(
    study: Study, steps: Sequence[Step], *, done: Container[str], output: Path
) -> dict[str, list[RowResult]]:
    """Give what is done so far, base by base; a row appears once one of its seeds is scored.

    Args:
        study: what was run.
        steps: its plan.
        done: names of those that are done (`pege.reproduce.run.done_steps`).
        output: its folder.
    """
    found: dict[str, list[RowResult]] = {}
    for base in dict.fromkeys(s.name.split("/")[1] for s in steps if s.kind == "score"):
        rows = (_read_row(study, done, output, base, row) for row in study.rows if base in study.bases_of(row))
        found[base] = [r for r in rows if r is not None]
    return found


def _read_row(study: Study, done: Container[str], output: Path, base: str, row: str) -> RowResult | None:
    there = {s: run_folder(output, base, row, s) for s in study.seeds_of(row) if f"score/{base}/{row}/{s}" in done}
    if not there:
        return None
    by_seed = [sorted((dict(r) for _, r in read_lines(f / "scores.jsonl")), key=_id) for f in there.values()]
    names = [n for n in by_seed[0][0] if n != "id"]
    seed, first = next(iter(there.items()))
    static, perplexity = (f"{kind}/{base}/{row}/{seed}" in done for kind in ("static", "perplexity"))
    return RowResult(
        name=row,
        seeds=tuple(there),
        values={n: np.array([[r[n] for r in rows] for rows in by_seed]) for n in names},
        tables=tuple(read_json(f / "score.json") for f in there.values()),
        static=read_json(first / "static.json") if static else {},
        perplexity=read_json(first / "perplexity.json")["perplexity"] if perplexity else None,
        folders=tuple(there.values()),
    )


def _id(row: dict[str, Any]) -> str:
    return str(row["id"])
