"""Mean VAD along the utterances of many dialogs: the picture of the paper's idea."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pege.dialog import Dialog
from pege.lexicon import Lexicon
from pege.metrics.interval import mean_interval
from pege.metrics.pege import utterance_vad
from pege.words import segmenter


def valence_trajectory(
    dialogs: Sequence[Dialog], lexicon: Lexicon, language: str, *, seed: int = 0, n_resamples: int = 999
) -> list[dict[str, Any]]:
    """Give, for each position k = 1, 2, ..., who speaks, the mean valence, its interval, and of how many utterances.

    Utterances without a word of the lexicon are left out; so are positions with fewer than two utterances.
    """
    cut = segmenter(language)
    found: list[list[float]] = []
    for dialog in dialogs:
        for k, text in enumerate(dialog.texts):
            vad = utterance_vad(text, lexicon, cut)
            if k == len(found):
                found.append([])
            if vad is not None:
                found[k].append(float(vad[0]))
    points = []
    for k, values in enumerate(found, start=1):
        if len(values) > 1:
            low, high = mean_interval(values, seed=seed, n_resamples=n_resamples)
            speaker = "user" if k % 2 else "agent"
            points.append(
                {"k": k, "speaker": speaker, "mean": float(np.mean(values)), "ci": [low, high], "n": len(values)}
            )
    return points
