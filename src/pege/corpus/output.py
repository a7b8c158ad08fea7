"""The last step: kept sessions to shards of rows, split by hash; dropped ones with their reasons; the report."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pege.corpus.config import CorpusConfig
from pege.corpus.shards import CONVERSATION, DROPPED, KEPT, Drops, Step, keep_rows, read_table, write_table
from pege.errors import InputError
from pege.io import write_json, write_rows

log = logging.getLogger(__name__)

#: reasons whose detail is a number, a topic or an id; that of others quotes the dialog
_TELLS_NO_TEXT = {"near-duplicate", "unclear-start", "not-positive-end", "offensive", "topic"}
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


@dataclass(frozen=True)
class Steps:
    """What the steps left: their shards, and the folder of the near-duplicates."""

    taken: Step
    cleaned: Step
    filtered: Step
    duplicates: Path

    def shards(self) -> list[str]:
        """All shards of the input."""
        return self.taken.shards()

    def kept(self, shard: str, columns: Sequence[str] = KEPT.names) -> pa.Table:
        """Kept sessions of a shard, near-duplicates left out; ``key`` must be of the columns."""
        kept = read_table(self.filtered.path(shard, "kept"), columns)
        of = self._duplicates(shard)
        return keep_rows(kept, np.array([key not in of for key in kept.column("key").to_pylist()], dtype=np.bool_))

    def dropped(self, shard: str) -> Iterator[pa.Table]:
        """Dropped conversations and sessions of a shard, step by step."""
        yield read_table(self.cleaned.path(shard, "dropped"))
        yield read_table(self.filtered.path(shard, "dropped"))
        of = self._duplicates(shard)
        if of:
            kept = read_table(self.filtered.path(shard, "kept"), CONVERSATION.names)
            found = [(k, of[key]) for k, key in enumerate(kept.column("key").to_pylist()) if key in of]
            n = len(found)
            details = [f"of {original}" for _, original in found]
            yield Drops([k for k, _ in found], ["near-duplicate"] * n, [None] * n, details).table(kept)

    def _duplicates(self, shard: str) -> dict[str, str]:
        """Key of each near-duplicate of a shard -> the id of what it repeats."""
        found = read_table(self.duplicates / f"{shard}.parquet").to_pydict()
        return dict(zip(found["key"], found["of"], strict=True))


def write_corpus(folder: Path, config: CorpusConfig, steps: Steps, *, keep_dropped: bool) -> dict[str, Any]:
    """Write the corpus folder from the shards of the steps.

    Args:
        folder: of the corpus.
        config: of the split and of the last utterance.
        steps: where they are.
        keep_dropped: whether dropped dialogs keep their texts, and what the filters saw of them.

    Returns:
        The report, in which input = kept + dropped + quarantined.

    Raises:
        RuntimeError: conversations of the first step are missing from a later one; nothing is written then.
    """
    shards = steps.shards()
    n_taken = _check_counts(steps, shards)
    for part in folder.glob("*/.*.part"):  # of a start that was killed
        part.unlink()
    reasons: Counter[str] = Counter()
    dropped = (_counted(table, reasons, keep_dropped) for s in shards for table in steps.dropped(s))
    _write_parts(folder / "dropped", dropped, DROPPED)
    n_quarantined = _write_quarantine(folder, steps.taken, shards)
    renamed = _repeated_ids(steps, shards)
    n_rows = dict.fromkeys(SIDES, 0)
    for side in SIDES:
        rows = (_rows(steps.kept(s), side, config, renamed) for s in shards)
        n_rows[side] = _write_parts(folder / side, rows, ROW)
    n_kept = sum(n_rows.values())
    n_input = n_kept + sum(reasons.values()) + n_quarantined
    if config.window is None and n_input != n_taken + n_quarantined:
        raise RuntimeError(f"{n_taken + n_quarantined} rows were read and {n_input} are accounted for")
    report = {
        "input": n_input,
        "conversations": n_taken + n_quarantined,
        "kept": n_kept,
        "dropped": dict(reasons.most_common()),
        "quarantined": n_quarantined,
        **n_rows,
        "classifier": next(steps.filtered.counts(shards))["classifier"],
    }
    write_json(folder / "report.json", report)
    return report


def _check_counts(steps: Steps, shards: list[str]) -> int:
    """See that each step had all that the one before it left; give the conversations of the first."""
    taken, cleaned, filtered = (list(s.counts(shards)) for s in (steps.taken, steps.cleaned, steps.filtered))
    handed_on = (("conversations", taken, "read", cleaned), ("kept", cleaned, "conversations", filtered))
    for left, before, got, after in handed_on:
        n_left, n_got = sum(c[left] for c in before), sum(c[got] for c in after)
        if n_left != n_got:
            raise RuntimeError(f"a step left {n_left} conversations and the next one had {n_got}")
    return sum(int(c["conversations"]) for c in taken)


def _repeated_ids(steps: Steps, shards: list[str]) -> dict[str, str]:
    """Give a new id, by key, to each kept session whose id another one has: ID~2, ID~3, ..."""
    seen: Counter[str] = Counter()
    renamed: dict[str, str] = {}
    for shard in shards:
        kept = steps.kept(shard, ("key", "id")).to_pydict()
        for key, dialog_id in zip(kept["key"], kept["id"], strict=True):
            seen[dialog_id] += 1
            if seen[dialog_id] > 1:
                renamed[key] = f"{dialog_id}~{seen[dialog_id]}"
    if renamed:
        log.warning("%d kept dialogs have an id that another one has; they get ~2, ~3, ... behind it", len(renamed))
    return renamed


def check_kept(steps: Steps, *, where: str) -> None:
    """See that a dialog was kept, before anything is written.

    Raises:
        InputError: none was; with the counts of the reasons and what is wrong with the first quarantined row.
    """
    shards = steps.shards()
    if any(c["kept"] for c in steps.filtered.counts(shards)):
        return
    reasons: Counter[str] = Counter()
    for table in (t for s in shards for t in steps.dropped(s)):
        reasons.update(table.column("reason").to_pylist())
    found = [f"{n} {reason}" for reason, n in reasons.most_common()]
    bad = [row for s in shards for row in read_table(steps.taken.path(s, "quarantined")).to_pylist()]
    if bad:
        found.append(f"{len(bad)} quarantined, the first at {bad[0]['file']}:{bad[0]['line']}: {bad[0]['reason']}")
    what = f"no dialog was kept ({', '.join(found) or 'nothing was read'})"
    raise InputError(what, where=where, fix="loosen the filters" if reasons else "see docs/rows.md")


def _counted(table: pa.Table, reasons: Counter[str], keep_texts: bool) -> pa.Table:
    found = table.column("reason").to_pylist()
    reasons.update(found)
    if keep_texts:
        return table
    details = [
        d if r in _TELLS_NO_TEXT else None for d, r in zip(table.column("detail").to_pylist(), found, strict=True)
    ]
    for name, values in (("texts", [None] * table.num_rows), ("detail", details)):
        field = DROPPED.field(name)
        table = table.set_column(table.schema.get_field_index(name), field, pa.array(values, field.type))
    return table


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


def _rows(kept: pa.Table, side: str, config: CorpusConfig, renamed: Mapping[str, str]) -> pa.Table:
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
    columns = {n: kept.column(n) for n in ("lang", "source", "extra")}
    pairs = zip(kept.column("key").to_pylist(), kept.column("id").to_pylist(), strict=True)
    columns["id"] = pa.array([renamed.get(key, i) for key, i in pairs], pa.string())
    return pa.table({**columns, "messages": pa.array(messages, _MESSAGES), "emotion": emotion})


def side_of(dialog_id: str, config: CorpusConfig) -> str:
    """Give ``train`` or ``validation`` by a hash of the conversation's id: sessions of one never part."""
    digest = hashlib.sha256(f"{config.seed}|{dialog_id.partition('#')[0]}".encode()).digest()
    return "validation" if int.from_bytes(digest[:4]) / 2**32 < config.validation_share else "train"
