"""The last step: kept sessions to shards of rows, split by hash; dropped ones with their reasons; the report."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pege.corpus.config import CorpusConfig
from pege.corpus.shards import DROPPED, Step, read_table, write_table
from pege.errors import InputError
from pege.io import write_json, write_rows

_EMOTION = pa.struct([("negative", pa.float64()), ("neutral", pa.float64()), ("positive", pa.float64())])
_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
#: A row of the corpus in the ``messages`` form (docs/rows.md); ``extra`` holds further fields of the source, JSON.
ROW = pa.schema(
    [
        ("id", pa.string()),
        ("lang", pa.string()),
        ("source", pa.string()),
        ("messages", _MESSAGES),
        ("emotion", _EMOTION),
        ("extra", pa.string()),
    ]
)
SIDES = ("train", "validation")
ROWS_OF_A_SHARD = 50_000


def write_corpus(
    folder: Path,
    config: CorpusConfig,
    taken: Step,
    cleaned: Step,
    filtered: Step,
    *,
    keep_dropped: bool,
) -> dict[str, Any]:
    """Write the corpus folder from the shards of the steps.

    Args:
        folder: of the corpus.
        config: of the split and of the last utterance.
        taken: the first step's shards.
        cleaned: the second's.
        filtered: the fourth's.
        keep_dropped: whether dropped dialogs keep their texts.

    Returns:
        The report, in which input = kept + dropped + quarantined.
    """
    shards = filtered.shards()
    reasons: Counter[str] = Counter()
    dropped = (
        _counted(read_table(step.path(s, "dropped")), reasons, keep_dropped)
        for s in shards
        for step in (cleaned, filtered)
    )
    _write_parts(folder / "dropped", dropped, DROPPED)
    n_quarantined = _write_quarantine(folder, taken, shards)
    n_rows = dict.fromkeys(SIDES, 0)
    for side in SIDES:
        rows = (_rows(read_table(filtered.path(s, "kept")), side, config) for s in shards)
        n_rows[side] = _write_parts(folder / side, rows, ROW)
    n_kept = sum(n_rows.values())
    report = {
        "input": n_kept + sum(reasons.values()) + n_quarantined,
        "kept": n_kept,
        "dropped": dict(reasons.most_common()),
        "quarantined": n_quarantined,
        **n_rows,
        "classifier": next(filtered.counts(shards))["classifier"],
    }
    write_json(folder / "report.json", report)
    return report


def check_kept(taken: Step, cleaned: Step, filtered: Step, *, where: str) -> None:
    """See that a dialog was kept, before anything is written.

    Raises:
        InputError: none was; with the counts of the reasons and what is wrong with the first quarantined row.
    """
    shards = filtered.shards()
    if any(c["kept"] for c in filtered.counts(shards)):
        return
    reasons: Counter[str] = Counter()
    for table in (read_table(step.path(s, "dropped"), ["reason"]) for s in shards for step in (cleaned, filtered)):
        reasons.update(table.column("reason").to_pylist())
    found = [f"{n} {reason}" for reason, n in reasons.most_common()]
    bad = [row for s in shards for row in read_table(taken.path(s, "quarantined")).to_pylist()]
    if bad:
        found.append(f"{len(bad)} quarantined, the first at {bad[0]['file']}:{bad[0]['line']}: {bad[0]['reason']}")
    what = f"no dialog was kept ({', '.join(found) or 'nothing was read'})"
    raise InputError(what, where=where, fix="loosen the filters" if reasons else "see docs/rows.md")


def _counted(table: pa.Table, reasons: Counter[str], keep_texts: bool) -> pa.Table:
    reasons.update(table.column("reason").to_pylist())
    if keep_texts:
        return table
    place = table.schema.get_field_index("texts")
    return table.set_column(place, DROPPED.field("texts"), pa.nulls(table.num_rows, DROPPED.field("texts").type))


def _write_parts(folder: Path, tables: Iterator[pa.Table], schema: pa.Schema) -> int:
    """Write tables as ``00000.parquet``, ... of ``ROWS_OF_A_SHARD`` rows; at least one file. Give the rows."""
    folder.mkdir(parents=True, exist_ok=True)
    waiting = [schema.empty_table()]
    n_rows = n_parts = 0
    for table in tables:
        waiting.append(table.select(schema.names).cast(schema))
        n_rows += table.num_rows
        while sum(t.num_rows for t in waiting) >= ROWS_OF_A_SHARD:
            whole = pa.concat_tables(waiting).combine_chunks()
            write_table(whole.slice(0, ROWS_OF_A_SHARD), folder / f"{n_parts:05d}.parquet")
            waiting, n_parts = [whole.slice(ROWS_OF_A_SHARD)], n_parts + 1
    if n_parts == 0 or any(t.num_rows for t in waiting):
        write_table(pa.concat_tables(waiting).combine_chunks(), folder / f"{n_parts:05d}.parquet")
    return n_rows


def _write_quarantine(folder: Path, taken: Step, shards: list[str]) -> int:
    """Write ``quarantine.jsonl`` where a row was refused; give how many."""
    n = sum(int(c["quarantined"]) for c in taken.counts(shards))
    if n:
        tables = (read_table(taken.path(s, "quarantined")) for s in shards)
        write_rows(folder / "quarantine.jsonl", (row for t in tables for row in t.to_pylist()))
    return n


def _rows(kept: pa.Table, side: str, config: CorpusConfig) -> pa.Table:
    """Give ``ROW`` rows of the sessions on one side."""
    ids = kept.column("id").to_pylist()
    is_here = np.array([side_of(i, config) == side for i in ids], dtype=np.bool_)
    kept = kept.filter(pa.array(is_here))
    texts = kept.column("texts").to_pylist()
    if config.delete_last:
        texts = [t[:-1] if len(t) % 2 else t for t in texts]
    messages = [[{"role": ("user", "assistant")[k % 2], "content": c} for k, c in enumerate(t)] for t in texts]
    emotion = pa.StructArray.from_arrays(
        [kept.column(n).combine_chunks() for n in ("negative", "neutral", "positive")], fields=list(_EMOTION)
    )
    columns = {n: kept.column(n) for n in ("id", "lang", "source", "extra")}
    return pa.table({**columns, "messages": pa.array(messages, _MESSAGES), "emotion": emotion})


def side_of(dialog_id: str, config: CorpusConfig) -> str:
    """Give ``train`` or ``validation`` by a hash of the conversation's id: sessions of one never part."""
    digest = hashlib.sha256(f"{config.seed}|{dialog_id.partition('#')[0]}".encode()).digest()
    return "validation" if int.from_bytes(digest[:4]) / 2**32 < config.validation_share else "train"
