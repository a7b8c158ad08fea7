"""Sessions out of long conversations."""

from __future__ import annotations


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
