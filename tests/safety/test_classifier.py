"""What the classifier sees of a text: the features by their names, spelled out."""

from __future__ import annotations

import time
import zlib
from itertools import combinations

import pytest

from pege.safety.classifier import _NEAR, N_BUCKETS, _tokens, features_of


def names(text):
    words, tagged, concepts = _tokens(text)
    for n in range(1, 5):
        yield from ("w" + " ".join(words[k : k + n]) for k in range(len(words) - n + 1))
        yield from ("t" + " ".join(tagged[k : k + n]) for k in range(len(tagged) - n + 1))
    places = [(k, concept) for k, found in enumerate(concepts) for concept in found]
    yield from (f"p{a}>{b}" for (j, a), (k, b) in combinations(places, 2) if 0 < k - j <= _NEAR)
    yield from (f"b{a}&{b}" for a, b in combinations(sorted({c for _, c in places}), 2))
    for word in (f"^{w}$" for w in words if w.isascii() and len(w) > 2):
        yield from ("c" + word[k : k + n] for n in (3, 4, 5) for k in range(len(word) - n + 1))


@pytest.mark.parametrize(
    "text",
    ["", "hi", "he hits me when he drinks and i want to die", "我想死，他打我！ 今天没去上班", "kill ! kill ; me 杀 杀 2 day", "a b c d e"],
)  # fmt: skip
def test_features_are_the_codes_of_their_names(text):
    expected = sorted({zlib.crc32(name.encode()) % N_BUCKETS for name in names(text)})
    assert features_of(text).buckets.tolist() == expected


def test_pairs_of_concepts_are_not_counted_over_a_whole_text():
    def seconds(n_chars):
        start = time.process_time()
        features_of("杀" * n_chars)
        return time.process_time() - start

    seconds(10)
    assert seconds(40_000) <= 24 * max(seconds(5_000), 0.01)  # a square would be 64 times as long
