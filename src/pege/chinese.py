"""jieba's words of whole columns of text, by array operations: its dictionary, its model, its sums in its order.

jieba cuts a text in two steps. The likeliest path over the words of its dictionary is found from the end of a run of
characters to its start; where that leaves single characters side by side, a hidden Markov model with the states B, M, E
and S (begin, middle, end, single) joins them. Here each step is taken by all runs of a column at once. The numbers are
added in the order in which jieba adds them, and equal sums are told apart as there, so the words are the same.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_BITS = 21  # of a code point
_STATES = "BMES"
_BEFORE = {"B": "ES", "M": "BM", "E": "BM", "S": "ES"}  # the second wins a tie, as the greater letter does in jieba
_LATIN = re.compile(r"([a-zA-Z0-9]+(?:\.\d+)?%?)")  # jieba.finalseg.re_skip
_OTHERS = "+#&._%-"  # what stands in a run beside Chinese characters, letters and digits


@dataclass(frozen=True)
class _Tables:
    """jieba's dictionary as a trie, and the numbers of its model.

    Attributes:
        keys: (n,) sorted, parent << 21 | code point of each node but the root, which is 0; node k + 1 has key k.
        scores: (n + 1,), log(frequency) - log(total) of a node's word, NaN where it is none.
        single: what a character counts that starts no word.
        start: (4,), of the states.
        step: (4, 4), from a state to a state.
        emitted: (65536, 4), of a character in a state.
    """

    keys: Ints
    scores: Floats
    single: float
    start: Floats
    step: Floats
    emitted: Floats

    def children(self, nodes: Ints, codes: Ints) -> Ints:
        """Give the node that a code point leads to, -1 where there is none."""
        wanted = nodes << _BITS | codes
        places = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.where(self.keys[places] == wanted, places + 1, -1)


@functools.cache
def _tables() -> _Tables:
    import jieba
    from jieba.finalseg import MIN_FLOAT, emit_P, start_P, trans_P

    with jieba.Tokenizer().get_dict_file() as file:
        lines = file.read().decode("utf-8").split("\n")
    words, counts = zip(*(line.strip().split(" ")[:2] for line in lines if line.strip()), strict=True)
    frequencies = np.array(counts, dtype=np.int64)
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    codes = np.array(words).view(np.uint32).reshape(len(words), -1).astype(np.int64)
    # level by level, so that nodes come in the order of their keys: parents are numbered before their children
    node, keys = np.zeros(len(words), np.int64), []
    n_nodes = 0
    for k in range(codes.shape[1]):
        longer = lengths > k
        found, places = np.unique(node[longer] << _BITS | codes[longer, k], return_inverse=True)
        node[longer] = n_nodes + 1 + places
        keys.append(found)
        n_nodes += len(found)
    total = math.log(int(frequencies.sum()))
    last = dict(zip(node.tolist(), counts, strict=True))  # of a word that stands there twice the last one counts
    scores = np.full(n_nodes + 1, np.nan)
    for place, count in last.items():
        if int(count):
            scores[place] = math.log(int(count)) - total
    emitted = np.full((1 << 16, len(_STATES)), MIN_FLOAT)
    for k, state in enumerate(_STATES):
        for char, value in emit_P[state].items():
            emitted[ord(char), k] = value
    step = np.array([[trans_P[a].get(b, MIN_FLOAT) for b in _STATES] for a in _STATES])
    start = np.array([start_P[s] for s in _STATES])
    return _Tables(np.concatenate(keys), scores, math.log(1) - total, start, step, emitted)


def cut_texts(texts: Sequence[str]) -> tuple[Ints, Ints, Ints, Ints]:
    """Cut many texts, as jieba does by default.

    Args:
        texts: N of them.

    Returns:
        The code points of all texts, one behind the other; where each piece starts in them, where it stops, and the
        number of the text it is of.
    """
    codes = np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32).astype(np.int64)
    owners = np.repeat(np.arange(len(texts)), np.fromiter(map(len, texts), np.int64, len(texts)))
    in_run = _in_run(codes)
    is_start = np.ones(len(codes), bool)  # what is in no run stands alone
    first = in_run & ~np.concatenate(([False], in_run[:-1] & (owners[1:] == owners[:-1])))[: len(codes)]
    starts = np.flatnonzero(first)
    following = np.concatenate((~in_run[1:] | first[1:], [True]))[: len(codes)]
    stops = np.flatnonzero(in_run & following) + 1
    if len(starts):
        _cut_runs(codes, starts, stops, is_start)
    pieces = np.flatnonzero(is_start)
    return codes, pieces, np.append(pieces[1:], len(codes))[: len(pieces)], owners[pieces]


def _is_han(codes: Ints) -> Flags:
    return (codes >= 0x4E00) & (codes <= 0x9FD5)


def _in_run(codes: Ints) -> Flags:
    """Whether a character is one that jieba.re_han_default takes."""
    plain = np.zeros(128, bool)
    plain[[ord(c) for c in _OTHERS]] = True
    for a, b in ("az", "AZ", "09"):
        plain[ord(a) : ord(b) + 1] = True
    return _is_han(codes) | ((codes < 128) & plain[np.minimum(codes, 127)])


def _cut_runs(codes: Ints, starts: Ints, stops: Ints, is_start: Flags) -> None:
    """Take marks of ``is_start`` away where a word of a run goes on."""
    tables = _tables()
    n = stops - starts
    places = np.repeat(starts, n) + _counted(n)
    ends = np.repeat(stops, n)
    lengths = np.ones(len(codes), np.int64)
    lengths[places] = _likeliest(tables, codes, places, ends)
    words = _walk(starts, stops, lengths, len(codes))  # whether a word starts there
    is_start[places] = words[places]
    single = np.zeros(len(codes), bool)
    single[places] = words[places] & (lengths[places] == 1)
    # characters that were left alone side by side within a run
    opens = single.copy()
    opens[1:] &= ~single[:-1]
    opens[starts] = single[starts]
    alone = np.flatnonzero(opens)
    closes = single.copy()
    closes[:-1] &= ~single[1:]
    closes[stops - 1] = single[stops - 1]
    until = np.flatnonzero(closes) + 1
    several = until - alone > 1
    alone, until = alone[several], until[several]
    unknown = ~_is_word(tables, codes, alone, until)
    if unknown.any():
        _join(tables, codes, alone[unknown], until[unknown], is_start)


def _counted(n: Ints) -> Ints:
    """0 ... n - 1 for each n, one behind the other."""
    return np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)


def _likeliest(tables: _Tables, codes: Ints, places: Ints, ends: Ints) -> Ints:
    """Length of the word that the likeliest path takes from each place of the runs on."""
    left = ends - places
    at, sizes, scores = _words_from(tables, codes, places, ends)
    order = np.lexsort((sizes, at, left[at]))  # from the ends of the runs to their starts
    at, sizes, scores = at[order], sizes[order], scores[order]
    opens = np.flatnonzero(np.concatenate(([True], at[1:] != at[:-1])))
    steps = np.searchsorted(left[at[opens]], np.arange(left.max() + 2))  # places by what is left of their run
    best = np.zeros(len(places) + 1)  # of the rest of the run from a place of it; behind its end 0
    length = np.ones(len(places), np.int64)
    bounds = np.append(opens, len(at))
    for a, b in itertools.pairwise(steps[1:]):
        if a == b:
            continue
        part = slice(bounds[a], bounds[b])
        here, size = at[part], sizes[part]
        rest = np.where(size < left[here], best[np.minimum(here + size, len(places))], 0.0)
        value = scores[part] + rest
        inner = opens[a:b] - bounds[a]
        n = np.diff(np.append(inner, len(here)))
        top = np.maximum.reduceat(value, inner)
        chosen = np.maximum.reduceat(np.where(value == np.repeat(top, n), size, 0), inner)  # of equals the longest
        best[here[inner]] = top
        length[here[inner]] = chosen
    return length


def _words_from(tables: _Tables, codes: Ints, places: Ints, ends: Ints) -> tuple[Ints, Ints, Floats]:
    """All words of the dictionary that start at a place: number of the place, length, score."""
    numbers, node = np.arange(len(places)), np.zeros(len(places), np.int64)
    is_covered = np.zeros(len(places), bool)
    found: list[tuple[Ints, Ints, Floats]] = []
    size = 0
    while len(numbers):
        node = tables.children(node, codes[places[numbers] + size])
        size += 1
        numbers, node = numbers[node > 0], node[node > 0]
        score = tables.scores[node]
        is_word = ~np.isnan(score)
        found.append((numbers[is_word], np.full(int(is_word.sum()), size), score[is_word]))
        is_covered[numbers[is_word]] = True
        inside = places[numbers] + size < ends[numbers]
        numbers, node = numbers[inside], node[inside]
    bare = np.flatnonzero(~is_covered)
    found.append((bare, np.ones(len(bare), np.int64), np.full(len(bare), tables.single)))
    at, sizes, scores = (np.concatenate(column) for column in zip(*found, strict=True))
    return at, sizes, scores


def _walk(starts: Ints, stops: Ints, lengths: Ints, n: int) -> Flags:
    """Where words start, from the start of each run to its end."""
    is_start = np.zeros(n, bool)
    while len(starts):
        is_start[starts] = True
        starts = starts + lengths[starts]
        starts, stops = starts[starts < stops], stops[starts < stops]
    return is_start


def _is_word(tables: _Tables, codes: Ints, starts: Ints, stops: Ints) -> Flags:
    """Whether the dictionary has what stands from a start to a stop."""
    node = np.zeros(len(starts), np.int64)
    numbers, k = np.arange(len(starts)), 0
    while len(numbers):
        node[numbers] = tables.children(node[numbers], codes[starts[numbers] + k])
        k += 1
        numbers = numbers[(node[numbers] > 0) & (starts[numbers] + k < stops[numbers])]
    return (node > 0) & ~np.isnan(tables.scores[node])


def _join(tables: _Tables, codes: Ints, starts: Ints, stops: Ints, is_start: Flags) -> None:
    """Join characters that were left alone: Chinese ones by the model, letters and digits by jieba's pattern."""
    n = stops - starts
    places = np.repeat(starts, n) + _counted(n)
    han = _is_han(codes[places])
    opens = np.flatnonzero(
        np.concatenate(([True], (han[1:] != han[:-1]) | (places[1:] != places[:-1] + 1))) | np.isin(places, starts)
    )
    bounds = np.append(opens, len(places))
    first, size = places[opens], np.diff(bounds)
    is_han = han[opens]
    _join_han(tables, codes, first[is_han], size[is_han], is_start)
    for a, k in zip(first[~is_han].tolist(), size[~is_han].tolist(), strict=True):
        text = codes[a : a + k].astype(np.uint32).tobytes().decode("utf-32-le")
        is_start[a : a + k] = False
        is_start[a + np.array(_latin_starts(text))] = True


@functools.lru_cache(maxsize=65_536)
def _latin_starts(text: str) -> tuple[int, ...]:
    parts = [p for p in _LATIN.split(text) if p]
    return tuple(itertools.accumulate((len(p) for p in parts[:-1]), initial=0))


def _join_han(tables: _Tables, codes: Ints, starts: Ints, sizes: Ints, is_start: Flags) -> None:
    """Viterbi of jieba.finalseg, all runs at once; a word ends in the states E and S."""
    order = np.argsort(-sizes, kind="stable")  # those still going on stand first
    starts, sizes = starts[order], sizes[order]
    longest = int(sizes.max(initial=0))
    if not longest:
        return
    n_left = np.searchsorted(-sizes, -np.arange(longest), side="left")  # runs longer than k
    value = tables.start + tables.emitted[codes[starts]]  # (R, 4)
    final = value.copy()
    came_from = np.zeros((longest, len(starts), len(_STATES)), np.int8)
    for k in range(1, longest):
        n = int(n_left[k])
        emitted, new = tables.emitted[codes[starts[:n] + k]], np.empty((n, len(_STATES)))
        for s, state in enumerate(_STATES):
            a, b = (_STATES.index(x) for x in _BEFORE[state])
            first = value[:n, a] + tables.step[a, s] + emitted[:, s]
            second = value[:n, b] + tables.step[b, s] + emitted[:, s]
            new[:, s] = np.maximum(first, second)
            came_from[k, :n, s] = np.where(second >= first, b, a)
        value = new
        final[:n] = value
    end, single = _STATES.index("E"), _STATES.index("S")
    last = np.where(final[:, single] >= final[:, end], single, end)  # (R,), states of the character k
    for k in range(longest - 1, 0, -1):
        n = int(n_left[k])
        last[:n] = came_from[k, np.arange(n), last[:n]]  # now of k - 1
        is_start[starts[:n] + k] = (last[:n] == end) | (last[:n] == single)
