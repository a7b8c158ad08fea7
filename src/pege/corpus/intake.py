"""The first step: files in any layout to shards of checked conversations."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from pege.corpus.readers import check_row
from pege.corpus.rows import RawRow
from pege.corpus.shards import CONVERSATION, QUARANTINED, Step, conversation_row
from pege.dialog import Dialog
from pege.errors import InputError

_OWN_FIELDS = {"id", "lang", "source", "messages", "emotion"}


def take_in(rows: Iterable[RawRow], step: Step, name: str, *, shard_rows: int, limit: int | None = None) -> list[str]:
    """Read one input into shards ``NAME-00000``, ``NAME-00001``, ...

    A file that breaks off keeps the rows before the break; the break itself is quarantined. Shards that an earlier
    start finished are read again but not written again.

    Args:
        rows: of one input.
        step: where the shards go.
        name: of the input; it orders the inputs.
        shard_rows: rows of a shard, quarantined ones included.
        limit: stop after so many rows.

    Returns:
        The names of the shards.
    """
    names: list[str] = []
    source = itertools.islice(_until_broken(rows, name), limit)
    for k in itertools.count():
        part = list(itertools.islice(source, shard_rows))
        if not part and k:
            return names
        names.append(f"{name}-{k:05d}")
        if not step.is_done(names[-1]):
            _write_shard(part, step, names[-1])
    raise AssertionError


def _until_broken(rows: Iterable[RawRow], name: str) -> Iterator[RawRow]:
    line = 0
    try:
        for file, line, raw in rows:
            yield file, line, raw
    except InputError as e:
        yield Path(str(e.where or name)).name, line + 1, InputError(e.what)


def _write_shard(part: list[RawRow], step: Step, shard: str) -> None:
    good: list[dict[str, Any]] = []
    bad: list[dict[str, Any]] = []
    for place, (file, line, raw) in enumerate(part):
        dialog = check_row(raw, file, line)
        if isinstance(dialog, InputError):
            text = None if isinstance(raw, InputError) else _shown(raw)
            bad.append({"file": file, "line": line, "reason": dialog.what, "row": text})
        else:
            good.append(_row(dialog, f"{shard}-{place:06d}", (file, line)))
    tables = {
        "conversations": pa.Table.from_pylist(good, CONVERSATION),
        "quarantined": pa.Table.from_pylist(bad, QUARANTINED),
    }
    step.write(shard, tables, {"conversations": len(good), "quarantined": len(bad)})


def _shown(raw: Any) -> str:
    """The beginning of a row; what is no character stays escaped."""
    text = json.dumps(raw, ensure_ascii=False, default=str)[:2_000]
    return text.encode("utf-8", "backslashreplace").decode()


def _row(dialog: Dialog, key: str, at: tuple[str, int]) -> dict[str, Any]:
    extra = {k: v for k, v in (dialog.model_extra or {}).items() if isinstance(v, str | int | float | bool)}
    return conversation_row(key, dialog.id, dialog.language, dialog.source, dialog.texts, extra, at)
