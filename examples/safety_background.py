"""Ordinary utterances for the crisis classifier, label ``none``: what it must not take for a crisis.

    pip install chitchat_dataset==0.9.0                                  # MIT
    python examples/safety_background.py ../shared/data/dialogs OUTPUT.tsv.gz

English: 16,000 utterances of chitchat_dataset (MIT); Chinese: 10,000 of SMILECHAT's users (CC0), 2,000 of CPED (Apache-2.0).
Those that the list of phrases finds are left out. Nothing of it enters the repository.
"""

from __future__ import annotations

import gzip
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

from pege.safety.normalize import forms
from pege.safety.phrases import find_phrase, without_idioms


def chitchat() -> Iterator[str]:
    import chitchat_dataset

    for conversation in chitchat_dataset.Dataset().values():
        for message in conversation["messages"]:
            yield " ".join(part["text"] for part in message)


def users(file: Path) -> Iterator[str]:
    with gzip.open(file, "rt", encoding="utf-8") as source:
        for line in source:
            yield from (m["content"] for m in json.loads(line)["messages"] if m["role"] == "user")


def chosen(texts: Iterator[str], n: int, rng: random.Random) -> list[str]:
    lines = sorted({" ".join(t.split())[:240] for t in texts if len(t.strip()) > 3})
    rng.shuffle(lines)
    kept = (t for t in lines if not any(find_phrase(without_idioms(f)) for f in forms(t)))
    return [t for _, t in zip(range(n), kept, strict=False)]


def main(dialogs: str, output: str) -> None:
    rng = random.Random(0)
    lines = chosen(chitchat(), 16_000, rng)
    lines += chosen(users(Path(dialogs) / "smilechat.zh.jsonl.gz"), 10_000, rng)
    lines += chosen(users(Path(dialogs) / "cped.zh.jsonl.gz"), 2_000, rng)
    with gzip.open(output, "wt", encoding="utf-8") as out:
        out.write("label\ttext\n" + "".join(f"none\t{t}\n" for t in lines))
    print(len(lines), "lines")


if __name__ == "__main__":
    main(*sys.argv[1:])
