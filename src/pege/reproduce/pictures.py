"""Pictures of a study: valence along the dialog, and fluency against PEGE-Score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pege.io import make_folder, write_text
from pege.lexicon import load_lexicon
from pege.metrics.trajectory import valence_trajectory
from pege.report.plots import trade_off_plot, trajectory_plot
from pege.reproduce.config import Study
from pege.reproduce.results import RowResult


def write_pictures(study: Study, output: Path, base: str, rows: Sequence[RowResult]) -> Iterator[tuple[Path, str]]:
    """Write the pictures of a base as SVG; give each file and what it shows."""
    folder = output / "pictures"
    make_folder(folder)
    language = study.bases[base].language
    lexicon = load_lexicon(f"pege-{language}")
    lines = {r.name: valence_trajectory(r.dialogs(r.seeds[0]), lexicon, language) for r in rows}
    for speaker in ("user", "agent"):
        path = folder / f"{study.name}.{base}.{speaker}.svg"
        write_text(path, trajectory_plot(lines, speaker, reference=float(lexicon.mean[0])))
        yield path, f"mean valence of the {speaker}'s utterances along the dialog, first seed"
    models = [r for r in rows if study.rows[r.name].agent is None]  # what agents without one do would leave no room
    for name, x, of in (("front", "perplexity", _perplexity), ("repetition", "rep-4", _repetition)):
        points = {r.name: (at, float(r.values["pege"][0].mean())) for r in models if (at := of(r)) is not None}
        if len(points) > 1:
            path = folder / f"{study.name}.{base}.{name}.svg"
            write_text(path, trade_off_plot(points, x=x, y="PEGE-Score"))
            yield path, f"{x} against PEGE-Score, first seed: left and up is better"


def _perplexity(row: RowResult) -> float | None:
    return row.perplexity


def _repetition(row: RowResult) -> float | None:
    return float(row.values["repetition.rep_4"][0].mean()) if "repetition.rep_4" in row.values else None
