"""Starters: the first utterances of self-chats (design sec. 8)."""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pege.dialog import Dialog
from pege.errors import InputError
from pege.io import read_rows

SHIPPED = ("en", "zh")
CLASSES = ("negative", "neutral", "positive")


def load_starters(name: str | Path) -> list[Dialog]:
    """Load our 100 starters of a language (33 negative, 34 neutral, 33 positive), or rows of a file or a folder.

    Only the first utterance of a row counts.

    Raises:
        InputError: no such starters.
    """
    if str(name) in SHIPPED:
        source = importlib.resources.files("pege") / "assets" / "starters" / f"{name}.jsonl"
        with importlib.resources.as_file(source) as path:
            rows = list(read_rows(path, Dialog))
    elif Path(name).exists():
        rows = list(read_rows(name, Dialog))
    else:
        raise InputError("no such starters", where=name, fix="name en, zh, or a file of rows")
    if not rows:
        raise InputError("holds no starters", where=name)
    return [r.model_copy(update={"messages": r.messages[:1]}) for r in rows]


def pick_starters(rows: Sequence[Dialog], n: int, rng: np.random.Generator) -> list[Dialog]:
    """Pick n starters, the classes of ``starter_emotion`` as even as they come, in the order of the rows.

    Raises:
        InputError: fewer rows than n.
    """
    if n > len(rows):
        raise InputError(f"{n} starters asked for, {len(rows)} there", fix="ask for fewer")
    by_class: dict[str, list[int]] = {}
    for k in rng.permutation(len(rows)):
        by_class.setdefault(starter_emotion(rows[k]), []).append(int(k))
    picked: list[int] = []
    while len(picked) < n:
        for members in sorted(by_class.values(), key=len, reverse=True):
            if members and len(picked) < n:
                picked.append(members.pop())
    return [rows[k] for k in sorted(picked)]


def starter_emotion(row: Dialog) -> str:
    """Class that a starter was written for, or ``unknown``."""
    return str((row.model_extra or {}).get("starter_emotion", "unknown"))


def check_starters(rows: Sequence[Dialog], classifier: Any) -> dict[str, Any]:
    """Ask a classifier (``predict`` gives (N, 3)) about starters: how many of a class it agrees with, and which not."""
    p = classifier.predict([r.texts[0] for r in rows])
    found: dict[str, Any] = {c: {"n": 0, "agreed": 0} for c in CLASSES}
    found["disagreed"] = []
    for row, probabilities in zip(rows, p, strict=True):
        wanted, given = starter_emotion(row), CLASSES[int(np.argmax(probabilities))]
        if wanted not in CLASSES:
            continue
        found[wanted]["n"] += 1
        found[wanted]["agreed"] += wanted == given
        if wanted != given:
            found["disagreed"].append({"id": row.id, "wanted": wanted, "given": given, "text": row.texts[0]})
    return found
