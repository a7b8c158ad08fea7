"""The check before a release: a sample of kept dialogs, searched for personal data more widely than the filter does.

The filter has to spare the innocent; here a person looks at what is found, so the patterns are loose: whatever looks
like a number, an address or somebody's name. The recogniser is asked too, countries and cities included.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pege.corpus.entities import EntityRecogniser
from pege.corpus.read import corpus_rows, read_report
from pege.dialog import Dialog
from pege.errors import InputError

_NAME = r"[A-Z][a-z]+"
#: what may be personal data, however unlikely; of each text the first hit is shown
LOOSE = {
    "digits": re.compile(r"(?:\d[\s().–-]{0,2}){7,}"),
    "at-sign": re.compile(r"\S*@\S+|\b\w+\s?(?:\[at\]|\(at\))\s?\w+", re.IGNORECASE),
    "link": re.compile(r"(?:https?://|www\.)\S+|\b[\w-]+\.(?:com|org|net|cn|io)\b", re.IGNORECASE),
    "introduction": re.compile(
        rf"\b(?:my name is|I am called|call me|this is)\s+{_NAME}|\bI live (?:in|at|on)\s+\w+"
        r"|我叫\S|我的名字|我姓\S|我住在\S+|叫我\S"
    ),
    "title": re.compile(
        rf"\b(?:Mr|Mrs|Ms|Miss|Dr|Prof)\.?\s+{_NAME}|[\u4e00-\u9fff](?:先生|女士|小姐|老师|医生|教授|经理|同学)"
    ),
    "capitals": re.compile(rf"(?<=[a-z,] ){_NAME} {_NAME}"),
}


def audit_corpus(folder: Path, recogniser: EntityRecogniser, *, n_dialogs: int, seed: int = 0) -> dict[str, Any]:
    """List suspected leaks of personal data in a sample of kept dialogs: in their texts, ids and further fields.

    Args:
        folder: of a corpus.
        recogniser: of persons, institutions and addresses; see `pege.corpus.entities`. Another one than the build's
            sees what that one missed.
        n_dialogs: of the sample, >= 1, drawn by seed; all where there are fewer.
        seed: of the sample.

    Returns:
        ``n_dialogs``, ``n_utterances``, ``suspected`` (reason -> places), and ``leaks``: a list of ``id``, ``place``
        (the utterance from 1, ``id`` or ``extra``), ``reason``, ``found`` and ``text``.

    Raises:
        InputError: no such corpus; a sample of none.
    """
    if n_dialogs < 1:
        raise InputError(f"a sample of {n_dialogs} dialogs", where="--n-dialogs", fix="1 or more")
    n_kept = int(read_report(folder)["kept"])
    chosen = set(np.random.default_rng(seed).permutation(n_kept)[:n_dialogs].tolist())
    dialogs = [d for k, d in enumerate(corpus_rows(folder)) if k in chosen]
    places = [(d.id, *place) for d in dialogs for place in _places(d)]
    texts = [t for _, _, t in places]
    leaks = [(k, reason, hit[0]) for k, t in enumerate(texts) for reason, p in LOOSE.items() if (hit := p.search(t))]
    leaks += [(k, e.kind, e.text) for k, entities in enumerate(recogniser.find(texts)) for e in entities]
    rows = [
        {"id": places[k][0], "place": places[k][1], "reason": reason, "found": found, "text": texts[k]}
        for k, reason, found in sorted(leaks)
    ]
    suspected = Counter(r["reason"] for r in rows)
    return {
        "n_dialogs": len(dialogs),
        "n_utterances": sum(len(d.messages) for d in dialogs),
        "suspected": dict(suspected.most_common()),
        "leaks": rows,
    }


def _places(dialog: Dialog) -> Iterator[tuple[int | str, str]]:
    yield from enumerate(dialog.texts, start=1)
    yield "id", dialog.id
    if extra := (dialog.model_extra or {}).get("extra"):
        yield "extra", str(extra)
