"""The second step, per shard: rewrite and refuse utterances, cheap whole-dialog rules, and the hashes of the third."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pege.corpus.cleaning import active_rules, clean
from pege.corpus.config import CorpusConfig
from pege.corpus.shards import CONVERSATION, Drops, flatten, keep_rows, with_texts

#: A clean conversation: as read, plus per utterance why a rule refused it (null where none did).
CLEAN = pa.schema([*CONVERSATION, ("flaws", pa.list_(pa.string()))])
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


def clean_shard(table: pa.Table, config: CorpusConfig, hashing: Hashing) -> tuple[dict[str, pa.Table], dict[str, Any]]:
    """Clean one shard of conversations.

    Args:
        table: ``CONVERSATION`` rows.
        config: rules and bounds.
        hashing: see there.

    Returns:
        Tables ``conversations`` (``CLEAN``), ``dropped`` (``DROPPED``) and ``responses`` (hashes of a response and of
        its dialog), and the counts.
    """
    if config.trailing == "cut":
        table = _without_last_word(table)
    texts, offsets = flatten(table)
    texts, flaws = clean(texts, active_rules(config.cleaning))
    table = with_texts(table, texts, offsets)
    drops = _drops(table, texts, offsets, flaws, config)
    is_kept = np.ones(table.num_rows, dtype=np.bool_)
    is_kept[drops.rows] = False
    flaws_column = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flaws)
    kept = keep_rows(table.append_column(CLEAN.field("flaws"), flaws_column), is_kept)
    tables = {
        "conversations": kept,
        "dropped": drops.table(table),
        "responses": response_table(kept, config, hashing),
    }
    return tables, {"read": table.num_rows, "kept": kept.num_rows, "dropped": table.num_rows - kept.num_rows}


def _without_last_word(table: pa.Table) -> pa.Table:
    """Cut the agent's last utterance off where a dialog ends with one."""
    texts, offsets = flatten(table)
    lengths = np.diff(offsets)
    cut = (lengths % 2 == 0) & (lengths > 1)
    is_kept = np.ones(len(texts), dtype=np.bool_)
    is_kept[offsets[1:][cut] - 1] = False
    new_offsets = np.concatenate(([0], np.cumsum(lengths - cut))).astype(np.int64)
    return with_texts(table, texts.filter(pa.array(is_kept)), new_offsets)


def _drops(
    table: pa.Table, texts: pa.Array, offsets: NDArray[np.int64], flaws: pa.Array, config: CorpusConfig
) -> Drops:
    """Whole-dialog rules; a flaw counts here only where no windows are cut, else for the session it lies in."""
    lengths = np.diff(offsets)
    n = table.num_rows
    reasons: list[str | None] = [None] * n
    places: list[int | None] = [None] * n
    for k in np.flatnonzero(lengths < config.min_utterances):
        reasons[k] = "too-few"
    if config.window is None:
        for k in np.flatnonzero(lengths > config.max_utterances):
            reasons[k] = reasons[k] or "too-many"
        for k in np.flatnonzero(lengths % 2 == 0) if config.same_speaker else ():
            reasons[k] = reasons[k] or "ends-with-agent"
        flawed = np.flatnonzero(flaws.is_valid().to_numpy(zero_copy_only=False))
        owner = np.searchsorted(offsets, flawed, side="right") - 1
        for k, first in zip(*np.unique(owner, return_index=True), strict=True):
            if reasons[k] is None:
                reasons[k], places[k] = flaws[int(flawed[first])].as_py(), int(flawed[first] - offsets[k])
    rows = [k for k in range(n) if reasons[k] is not None]
    details = [None if places[k] is None else texts[int(offsets[k]) + int(places[k] or 0)].as_py()[:200] for k in rows]
    return Drops(rows, [str(reasons[k]) for k in rows], [places[k] for k in rows], details)


# ---- hashes for near-duplicates and for responses that occur too often


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
