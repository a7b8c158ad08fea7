"""A companion that training never saw: P(positive) of the user's last utterance (design sec. 7 b)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pege.dialog import Dialog
from pege.emotion import load_emotion_classifier
from pege.metrics.signature import classifier_signature

THRESHOLD = 0.9  # of the paper's third filter


@dataclass(frozen=True)
class PositiveEnd:
    """How positive dialogs end.

    Attributes:
        p_positive: (N,) of the user's last utterance.
        share: of dialogs above ``THRESHOLD``, in [0, 1].
        signature: pins classifier and threshold.
    """

    p_positive: NDArray[np.float64]
    share: float
    signature: str


def positive_end(dialogs: Sequence[Dialog], classifier: Path | str | None = None) -> PositiveEnd:
    """Ask a classifier (a folder; None for ours) how positive the user's last utterance is."""
    model = load_emotion_classifier(classifier)
    p = model.predict([d.user_utterances[-1] for d in dialogs])[:, 2]
    return PositiveEnd(p, float((p > THRESHOLD).mean()), classifier_signature(model.name, THRESHOLD))
