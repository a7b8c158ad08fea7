"""How often the crisis check hits ordinary talk: `python examples/safety_false_alarms.py`, with PEGE_DATA set."""

from __future__ import annotations

import os
import random
from pathlib import Path

from pege.dialog import Dialog
from pege.io import read_rows
from pege.safety import judge
from pege.safety.check import LOCK_SCORE

SOURCES = ("dailydialog.en", "dailydialog.zh", "empathetic-test.en", "esconv.en", "emollm.zh")
N_UTTERANCES = 600


def main() -> None:
    folder = Path(os.environ.get("PEGE_DATA", "../shared/data")) / "dialogs"
    rng = random.Random(0)
    print("| source | hit | dialog locked |\n|---|---|---|")
    for source in SOURCES:
        texts = [t for d in read_rows(folder / f"{source}.jsonl.gz", Dialog) for t in d.user_utterances]
        found = [judge(t) for t in rng.sample(texts, N_UTTERANCES)]
        hits = [j for j in found if j.crisis]
        locked = sum(j.score >= LOCK_SCORE for j in hits)
        print(f"| {source} | {len(hits) / len(found):.1%} | {locked / len(found):.1%} |")


if __name__ == "__main__":
    main()
