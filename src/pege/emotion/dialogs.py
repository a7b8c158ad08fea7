"""The emotion of a dialog: that of its first utterance."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from pege.dialog import Dialog, Emotion

log = logging.getLogger(__name__)


def with_emotions(
    dialogs: Sequence[Dialog], classify: Callable[[list[str]], list[Emotion]], *, anew: bool = False
) -> list[Dialog]:
    """Give dialogs that all carry the emotion of u1.

    Args:
        dialogs: with an emotion or without.
        classify: asked for those that lack it.
        anew: ask for all of them, whatever they had.
    """
    asked = [k for k, d in enumerate(dialogs) if anew or d.emotion is None]
    result = list(dialogs)
    if asked:
        log.info("classifying the first utterance of %d dialogs", len(asked))
        for k, emotion in zip(asked, classify([dialogs[k].texts[0] for k in asked]), strict=True):
            result[k] = dialogs[k].model_copy(update={"emotion": emotion})
    return result
