"""The check before a release: a sample of kept dialogs, searched for personal data."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pege.corpus.entities import EntityRecogniser
from pege.corpus.personal import CONTACT_RULES
from pege.corpus.read import corpus_rows


def audit_corpus(folder: Path, recogniser: EntityRecogniser, *, n_dialogs: int, seed: int = 0) -> dict[str, Any]:
    """List suspected leaks of personal data in a sample of kept dialogs.

    Args:
        folder: of a corpus.
        recogniser: of persons, institutions and addresses; see `pege.corpus.entities`.
        n_dialogs: of the sample, drawn by seed; all where there are fewer.
        seed: of the sample.

    Returns:
        ``n_dialogs``, ``n_utterances``, ``suspected`` (reason -> utterances), and ``leaks``: a list of ``id``,
        ``utterance`` (from 1), ``reason``, ``found`` and ``text``.

    Raises:
        InputError: no such corpus.
    """
    dialogs = list(corpus_rows(folder))
    order = np.random.default_rng(seed).permutation(len(dialogs))[:n_dialogs]
    places = [(dialogs[k].id, u + 1, t) for k in sorted(order) for u, t in enumerate(dialogs[k].texts)]
    texts = [t for _, _, t in places]
    leaks: list[tuple[int, str, str | None]] = []
    for reason, has in CONTACT_RULES.items():
        hits = np.flatnonzero(has(pa.array(texts, pa.string())).to_numpy(zero_copy_only=False))
        leaks += [(int(k), reason, None) for k in hits]
    for k, entities in enumerate(recogniser.find(texts)):
        leaks += [(k, e.kind, e.text) for e in entities]
    rows = [
        {"id": places[k][0], "utterance": places[k][1], "reason": reason, "found": found, "text": texts[k]}
        for k, reason, found in sorted(leaks, key=lambda e: (e[0], e[1]))
    ]
    suspected = Counter(r["reason"] for r in rows)
    return {
        "n_dialogs": len(order),
        "n_utterances": len(texts),
        "suspected": dict(suspected.most_common()),
        "leaks": rows,
    }
