"""PEGE with c counted in turns against NLL, seed 0: `python docs/results/main_path_turns.py` (see main-path.md).

With ``--loss.count turns`` f(c) stays above 0 for the agent's first three responses, so E-Score should not fall.
"""

from __future__ import annotations

import os
from pathlib import Path

from main_path import HEAD, score_rows, values_of

from pege.dialog import Dialog
from pege.io import read_rows
from pege.lexicon import load_lexicon
from pege.metrics.table import Options

data = Path(os.environ.get("PEGE_DATA", "../shared/data"))
options = Options(
    unseen_lexicon=load_lexicon(data / "lexicons" / "nrc-vad-2.1.en.tsv.gz"), classifier=Path("runs/unseen-en")
)
runs = Path("runs/main-path")
a, b = (values_of(list(read_rows(runs / s / "selfchat.jsonl", Dialog)), options) for s in ("turns-0", "nll-0"))
print(HEAD.replace("PEGE", "PEGE, c in turns"), *score_rows(a, b), sep="\n")
