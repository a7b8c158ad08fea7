"""Why a dialog is dropped (sec. 3.2 of the paper). A filter gives a reason, or None to keep."""

from __future__ import annotations

import functools
import importlib.resources
import json

from pege.dialog import Dialog, Emotion


def length_reason(dialog: Dialog, *, min_utterances: int, max_utterances: int, max_chars: int) -> str | None:
    """``too-few`` or ``too-many`` utterances, or ``too-long`` an utterance."""
    n = len(dialog.messages)
    if n < min_utterances:
        return "too-few"
    if n > max_utterances:
        return "too-many"
    return "too-long" if max(map(len, dialog.texts)) > max_chars else None


def speaker_reason(dialog: Dialog) -> str | None:
    """``ends-with-agent``: the first and the last speaker are not the same (filter 1)."""
    return "ends-with-agent" if dialog.messages[-1].role == "assistant" else None


def topic_reason(dialog: Dialog) -> str | None:
    """``topic``: a phrase of trade, renting, job hunting, blind dates (filter 4; a first short list)."""
    text = " ".join(dialog.texts).lower()
    return "topic" if any(p in text for p in _topics()[dialog.language]) else None


@functools.cache
def _topics() -> dict[str, list[str]]:
    source = importlib.resources.files("pege") / "assets" / "corpus" / "topics.json"
    topics: dict[str, list[str]] = json.loads(source.read_text(encoding="utf-8"))
    return topics


def start_reason(first: Emotion, *, threshold: float) -> str | None:
    """``unclear-start``: no class of the first utterance above the threshold (filter 2)."""
    return None if max(first.negative, first.neutral, first.positive) > threshold else "unclear-start"


def end_reason(last: Emotion, *, threshold: float) -> str | None:
    """``not-positive-end``: p(positive) of the last utterance not above the threshold (filter 3)."""
    return None if last.positive > threshold else "not-positive-end"


def cut_windows(n_utterances: int, ends_well: list[bool], *, window: int, min_utterances: int) -> list[tuple[int, int]]:
    """Cut a long conversation into sessions, (start, stop) each, that start and end with the same speaker.

    A session ends at the first utterance that ends well, at least ``min_utterances`` and at most ``window`` long; the
    next one starts behind it. Where none is found the start moves on by one.

    Args:
        n_utterances: of the conversation.
        ends_well: for each utterance, whether a session may end there.
        window: utterances of a session at most.
        min_utterances: at least, >= 1.
    """
    found = []
    start = 0
    shortest = min_utterances + (min_utterances + 1) % 2  # an odd number
    while start + shortest <= n_utterances:
        stops = range(start + shortest, min(start + window, n_utterances) + 1, 2)
        stop = next((s for s in stops if ends_well[s - 1]), None)
        if stop is not None:
            found.append((start, stop))
        start = stop or start + 1
    return found
