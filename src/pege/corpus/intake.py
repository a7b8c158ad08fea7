"""The first step: files in any layout to shards of checked conversations."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pege.corpus.readers import check_row
from pege.corpus.rows import RawRow
from pege.corpus.shards import CONVERSATION, QUARANTINED, Step, conversation_row
from pege.dialog import Dialog
from pege.errors import InputError


def take_in(
    rows: Iterable[RawRow],
    step: Step,
    name: str,
    *,
    shard_rows: int,
    limit: int | None = None,
    fields: Sequence[str] = (),
) -> list[str]:
    """Read one input into shards ``NAME-00000``, ``NAME-00001``, ...

    A file that breaks off keeps the rows before the break; the break itself is quarantined. Shards that an earlier
    start finished are read again but not written again.

    Args:
        rows: of one input.
        step: where the shards go.
        name: of the input; it orders the inputs.
        shard_rows: rows of a shard, quarantined ones included.
        limit: stop after so many rows.
        fields: further ones of a row that are kept, where they are single values.

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
            _write_shard(part, step, names[-1], fields)
    raise AssertionError


def _until_broken(rows: Iterable[RawRow], name: str) -> Iterator[RawRow]:
    line = 0
    try:
        for file, line, raw in rows:
            yield file, line, raw
    except InputError as e:
        yield Path(str(e.where or name)).name, line + 1, InputError(e.what)


def _write_shard(part: list[RawRow], step: Step, shard: str, fields: Sequence[str]) -> None:
    good: list[dict[str, Any]] = []
    bad: list[dict[str, Any]] = []
    for place, (file, line, raw) in enumerate(part):
        dialog = check_row(raw, file, line)
        if isinstance(dialog, InputError):
            text = None if isinstance(raw, InputError) else _shown(raw)
            bad.append({"file": file, "line": line, "reason": dialog.what, "row": text})
        else:
            good.append(_row(dialog, f"{shard}-{place:06d}", (file, line), fields))
    tables = {
        "conversations": pa.Table.from_pylist(good, CONVERSATION),
        "quarantined": pa.Table.from_pylist(bad, QUARANTINED),
    }
    step.write(shard, tables, {"conversations": len(good), "quarantined": len(bad)})


def _shown(raw: Any) -> str:
    """The beginning of a row; what is no character stays escaped."""
    text = json.dumps(raw, ensure_ascii=False, default=str)[:2_000]
    return text.encode("utf-8", "backslashreplace").decode()


def _row(dialog: Dialog, key: str, at: tuple[str, int], fields: Sequence[str]) -> dict[str, Any]:
    extra = {k: v for k, v in (dialog.model_extra or {}).items() if k in fields and _is_plain(v)}
    return conversation_row(key, dialog.id, dialog.language, dialog.source, dialog.texts, extra, at)


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | bool) or (isinstance(value, float) and math.isfinite(value))
