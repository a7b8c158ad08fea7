"""Conversations as Arrow tables, and a shard's files on disk: the unit of work that a stopped build goes on from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pege.errors import InputError
from pege.io import read_json, write_atomic, write_json

#: One conversation (or session) a row. ``key`` orders rows as they were read and is unique in a build.
CONVERSATION = pa.schema(
    [
        ("key", pa.string()),
        ("id", pa.string()),
        ("lang", pa.string()),
        ("source", pa.string()),
        ("texts", pa.list_(pa.string())),  # the user's first, alternating
        ("extra", pa.string()),  # further fields of the row, JSON; null where there are none
        ("file", pa.string()),
        ("line", pa.int64()),
    ]
)
#: Why a conversation or session was dropped.
DROPPED = pa.schema(
    [
        *CONVERSATION,
        ("reason", pa.string()),
        ("utterance", pa.int32()),  # the one it was dropped for, from 0; null where it is the whole dialog
        ("detail", pa.string()),  # what the filter saw
    ]
)
#: What was refused before it was a conversation.
QUARANTINED = pa.schema([("file", pa.string()), ("line", pa.int64()), ("reason", pa.string()), ("row", pa.string())])
#: A kept session.
KEPT = pa.schema([*CONVERSATION, ("negative", pa.float64()), ("neutral", pa.float64()), ("positive", pa.float64())])


@dataclass(frozen=True)
class Drops:
    """Reasons as columns: which rows of a table, why, at which utterance, and what the filter saw."""

    rows: Sequence[int]
    reasons: Sequence[str]
    utterances: Sequence[int | None]
    details: Sequence[str | None]

    def table(self, conversations: pa.Table) -> pa.Table:
        """Give the dropped rows with their reasons, in the order of the table."""
        order = sorted(range(len(self.rows)), key=lambda k: self.rows[k])
        chosen = conversations.take(pa.array([self.rows[k] for k in order], pa.int64()))
        for name, values in (("reason", self.reasons), ("utterance", self.utterances), ("detail", self.details)):
            column = pa.array([values[k] for k in order], DROPPED.field(name).type)
            chosen = chosen.append_column(DROPPED.field(name), column)
        return chosen


def flatten(table: pa.Table) -> tuple[pa.Array, NDArray[np.int64]]:
    """Give the utterances of all rows one after the other, and (N + 1,) where each row's start."""
    texts = table.column("texts").combine_chunks()
    offsets = np.concatenate(([0], np.cumsum(texts.value_lengths().to_numpy(zero_copy_only=False)))).astype(np.int64)
    return texts.flatten(), offsets


def with_texts(table: pa.Table, texts: pa.Array, offsets: NDArray[np.int64]) -> pa.Table:
    """Give a table with its utterances replaced: `flatten` backwards."""
    column = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), texts)
    return table.set_column(table.schema.get_field_index("texts"), CONVERSATION.field("texts"), column)


def keep_rows(table: pa.Table, is_kept: NDArray[np.bool_]) -> pa.Table:
    """Give the rows that are marked."""
    return table.filter(pa.array(is_kept))


def write_table(table: pa.Table, path: Path) -> None:
    """Write a Parquet file whole or not at all; the same table gives the same bytes."""
    with write_atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one Parquet file that a build wrote.

    Raises:
        InputError: it is not whole any more.
    """
    try:
        return pq.ParquetFile(path).read(columns=None if columns is None else list(columns))
    except (pa.ArrowInvalid, OSError) as e:
        why = str(e).splitlines()[0][:200]
        raise InputError(f"is missing or damaged ({why})", where=path, fix="delete the folder, build again") from e


class Step:
    """A step's folder: per shard one Parquet file a table, and last ``NAME.json`` with its counts: the mark of done.

    Args:
        folder: of the step.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, shard: str, table: str) -> Path:
        """Where a table of a shard lies."""
        return self.folder / f"{shard}.{table}.parquet"

    def is_done(self, shard: str) -> bool:
        """Whether a shard was finished by an earlier start."""
        return self.mark(shard).is_file()

    def mark(self, shard: str) -> Path:
        """The file that is written last."""
        return self.folder / f"{shard}.json"

    def write(self, shard: str, tables: Mapping[str, pa.Table], counts: Mapping[str, Any]) -> None:
        """Write a shard's tables, then its counts."""
        for name, table in tables.items():
            write_table(table, self.path(shard, name))
        write_json(self.mark(shard), dict(counts))

    def counts(self, shards: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Counts of shards that are done."""
        for shard in shards:
            yield read_json(self.mark(shard))

    def shards(self) -> list[str]:
        """Names of the shards that are done, in order."""
        return sorted(p.name.removesuffix(".json") for p in self.folder.glob("*.json"))


def shard_of(key: str) -> str:
    """Give the shard that a conversation's or a session's key is of: ``0000-00000-000012-0003`` -> ``0000-00000``."""
    return "-".join(key.split("-")[:2])


def conversation_row(
    key: str,
    dialog_id: str,
    lang: str,
    source: str | None,
    texts: list[str],
    extra: dict[str, Any],
    at: tuple[str, int],
) -> dict[str, Any]:
    """One row of ``CONVERSATION``."""
    return {
        "key": key, "id": dialog_id, "lang": lang, "source": source, "texts": texts,
        "extra": json.dumps(extra, ensure_ascii=False) if extra else None, "file": at[0], "line": at[1],
    }  # fmt: skip
