"""``pege report``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pege.dialog import Dialog
from pege.errors import InputError
from pege.io import read_rows, write_json
from pege.lexicon import load_lexicon
from pege.metrics import Options, compare_table, is_scorable, language_of, score_table, valence_trajectory
from pege.report import dialogs_of, read_system, scores_file, write_report


def report(
    *systems: str,
    output: Path,
    lexicon: str | None = None,
    language: Literal["en", "zh"] | None = None,
    unseen_lexicon: str | None = None,
    classifier: str | None = None,
    n_samples: int = 6,
    seed: int = 0,
    n_resamples: int = 9_999,
) -> None:
    """Write one self-contained page that compares systems; the first is what the others are compared with.

    Args:
        systems: runs with a selfchat.jsonl, or self-chat files; NAME=PLACE names one.
        output: the HTML file.
        lexicon: one of ours or a file; ours of the language unless named.
        language: of all dialogs; guessed unless named.
        unseen_lexicon: a lexicon that training never saw.
        classifier: an emotion classifier that training never saw (a folder, or `default` for ours).
        n_samples: dialogs shown side by side.
        seed: of their pick, of bootstrap and permutation.
        n_resamples: of both.
    """
    if not systems:
        raise InputError("no systems", fix="name runs or self-chat files")
    dialogs = [list(read_rows(dialogs_of(s)[1], Dialog)) for s in systems]
    spoken = language_of([d for side in dialogs for d in side], language)
    chosen = load_lexicon(lexicon or f"pege-{spoken}")
    options = Options(
        lexicon=chosen,
        language=spoken,
        unseen_lexicon=load_lexicon(unseen_lexicon) if unseen_lexicon else None,
        classifier=classifier,
        seed=seed,
        n_resamples=n_resamples,
    )
    comparisons: list[dict[str, Any] | None] = []
    for spec, side in zip(systems, dialogs, strict=True):
        table, _ = score_table(side, options)
        table["trajectory"] = valence_trajectory([d for d in side if is_scorable(d)], chosen, spoken, seed=seed)
        write_json(scores_file(dialogs_of(spec)[1]), table)
        comparisons.append(None if side is dialogs[0] else compare_table(side, dialogs[0], options))
    write_report([read_system(s) for s in systems], comparisons, chosen, output, n_samples=n_samples, seed=seed)
    print(output)
