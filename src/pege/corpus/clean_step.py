"""The second step, per shard: rewrite and refuse utterances, cheap whole-dialog rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pege.corpus.cleaning import active_rules, clean
from pege.corpus.config import CorpusConfig
from pege.corpus.hashing import Hashing, response_table
from pege.corpus.shards import CONVERSATION, Drops, flatten, keep_rows, with_texts

#: A clean conversation: as read, plus per utterance why a rule refused it (null where none did).
CLEAN = pa.schema([*CONVERSATION, ("flaws", pa.list_(pa.string()))])


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
