"""Sessions out of long conversations."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from pege.corpus.windows import cut_windows


def test_long_conversations_are_cut_where_they_end_well():
    ends = [False, False, True, False, False, False, True, True]
    assert cut_windows(8, ends, window=5, min_utterances=3) == [(0, 3), (3, 8)]
    assert cut_windows(2, [True, True], window=5, min_utterances=3) == []


@given(st.lists(st.booleans(), max_size=40), st.integers(3, 12), st.integers(1, 7))
def test_sessions_are_odd_within_bounds_and_apart(ends, window, shortest):
    spans = cut_windows(len(ends), ends, window=window, min_utterances=shortest)
    for start, stop in spans:
        assert (stop - start) % 2 == 1
        assert shortest <= stop - start <= window
        assert ends[stop - 1]
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
