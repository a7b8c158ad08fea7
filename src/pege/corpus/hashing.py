"""Hashes that the steps compare: bands for near-duplicates, responses that occur too often."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pege.corpus.config import CorpusConfig
from pege.corpus.shards import flatten

_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd, its bits are those of the golden ratio


@dataclass(frozen=True)
class Hashing:
    """Hashes of texts, from the library that runs the build.

    Attributes:
        texts: strings to (N,) uint64.
        minhash: strings, number of hashes, words of a shingle, seed, to (N, hashes) uint32.
    """

    texts: Callable[[pa.Array], NDArray[np.uint64]]
    minhash: Callable[[pa.Array, int, int, int], NDArray[np.uint32]]


def band_table(table: pa.Table, config: CorpusConfig, hashing: Hashing) -> pa.Table:
    """Key and ``band_0``, ``band_1``, ... uint64: two dialogs that share one of them are near-duplicates."""
    columns = {"key": table.column("key").combine_chunks()}
    if config.duplicate_bands and table.num_rows:
        n, rows = config.duplicate_bands, config.duplicate_rows
        found = hashing.minhash(_shingled(table), n * rows, config.duplicate_ngram, config.seed)  # (N, n * rows)
        mixed = np.zeros((table.num_rows, n), dtype=np.uint64)
        for row in found.reshape(-1, n, rows).transpose(2, 0, 1).astype(np.uint64):
            mixed = _mix(mixed ^ row)
        columns |= {f"band_{k}": pa.array(mixed[:, k]) for k in range(n)}
    return pa.table(columns)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A step of splitmix64."""
    values = (values + _MIX) * np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    return values * np.uint64(0x94D049BB133111EB) ^ (values >> np.uint64(31))


def _shingled(table: pa.Table) -> pa.Array:
    """Each dialog as words parted by one space, lower-cased; a Han character is a word."""
    joined = pc.binary_join(table.column("texts").combine_chunks(), " ")
    spaced = pc.replace_substring_regex(pc.utf8_lower(joined), r"(\p{Han})", r" \1 ")
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(spaced, r"[^\p{L}\p{N}]+", " "))


def response_table(table: pa.Table, config: CorpusConfig, hashing: Hashing) -> pa.Table:
    """``hash`` uint64 of the agent's utterances that are long enough to be a template, with that of their ``dialog``.

    A dialog that was posted thirty times then counts once: its responses are no template for that.
    """
    empty = pa.table({"hash": pa.array([], pa.uint64()), "dialog": pa.array([], pa.uint64())})
    if not config.frequent_words or not table.num_rows:
        return empty
    texts, offsets = flatten(table)
    found = response_hashes(texts, offsets, config, hashing)
    owners = np.searchsorted(offsets, found.positions, side="right") - 1
    dialogs = hashing.texts(_shingled(table))[owners]
    pairs = np.unique(np.stack((dialogs, found.hashes)), axis=1)
    return pa.table({"hash": pa.array(pairs[1]), "dialog": pa.array(pairs[0])})


@dataclass(frozen=True)
class ResponseHashes:
    """Hashes of the longer responses of some dialogs and their flat positions, (M,) each."""

    positions: NDArray[np.int64]
    hashes: NDArray[np.uint64]


def response_hashes(
    texts: pa.Array, offsets: NDArray[np.int64], config: CorpusConfig, hashing: Hashing
) -> ResponseHashes:
    """Hash each of the agent's utterances with ``frequent_words`` words or more, upper and lower case alike."""
    positions = agent_positions(offsets)
    chosen = texts.take(pa.array(positions))
    n_words = pc.count_substring_regex(chosen, r"\p{Han}|[\p{L}\p{N}']+").to_numpy(zero_copy_only=False)
    is_long = n_words >= config.frequent_words
    return ResponseHashes(positions[is_long], hashing.texts(pc.utf8_lower(chosen.filter(pa.array(is_long)))))


def agent_positions(offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Flat positions of the agent's utterances: the odd ones of each dialog."""
    lengths = np.diff(offsets)
    place = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    return np.flatnonzero(place % 2 == 1).astype(np.int64)
