"""All dialogs as forum threads: `python docs/results/corpus_threads.py FOLDER` (see corpus.sh).

Each dialog becomes a thread in which two authors answer each other. To one post in five a third person answers: that
branch is another session of two posts, and leaves the dialog itself whole. The lines of a file are shuffled: a dump
promises no order.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pege.corpus.readers import check_row, read_raw
from pege.dialog import Dialog
from pege.io import write_rows

SHARE_OF_THIRD = 0.2


def posts_of(number: int, texts: list[str], rng: random.Random) -> Iterator[dict[str, Any]]:
    """One thread: the dialog's posts and a third person's answers to some."""
    for k, text in enumerate(texts):
        name = f"{number}-{k}"
        parent = f"{number}-{k - 1}" if k else None
        yield {"id": name, "parent": parent, "author": f"{number}-{'ab'[k % 2]}", "text": text}
        if k + 1 < len(texts) and rng.random() < SHARE_OF_THIRD:
            yield {"id": f"{name}x", "parent": name, "author": f"{number}-c", "text": rng.choice(texts)}


def main(folder: Path) -> None:
    """Write a file of posts for each file of dialogs."""
    data = Path(os.environ.get("PEGE_DATA", "../shared/data"))
    rng = random.Random(0)
    for spec in [*sorted(map(str, (data / "dialogs").glob("*.jsonl.gz"))), "chitchat"]:
        posts: list[dict[str, Any]] = []
        for number, (file, line, raw) in enumerate(read_raw([spec])):
            dialog = check_row(raw, file, line)
            if isinstance(dialog, Dialog):
                posts += posts_of(number, dialog.texts, rng)
        rng.shuffle(posts)
        write_rows(folder / f"{Path(spec).name.split('.jsonl')[0]}.jsonl.gz", posts)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
