"""Reading a corpus folder that was built: rows, what was dropped, one dialog's story, Table 2."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pege.corpus.output import SIDES
from pege.corpus.readers import made_id, plain_id
from pege.corpus.shards import read_table
from pege.dialog import Dialog
from pege.errors import InputError
from pege.io import read_json, read_lines, read_rows

EMOTIONS = ("negative", "neutral", "positive")


def parts(folder: Path, name: str) -> list[Path]:
    """Give the shards of a part, e.g. ``train``, in order.

    Raises:
        InputError: no such corpus.
    """
    if not (folder / "report.json").is_file():
        unfinished = (folder / "work").is_dir()
        fix = "start `pege corpus build` again to go on" if unfinished else "name a folder of `pege corpus build`"
        raise InputError("the build is not finished" if unfinished else "holds no corpus", where=folder, fix=fix)
    return sorted((folder / name).glob("*.parquet"))


def corpus_rows(folder: Path) -> Iterator[Dialog]:
    """Give all rows of a corpus, training side first."""
    for side in SIDES:
        for path in parts(folder, side):
            yield from read_rows(path, Dialog)


def start_of(dialog: Dialog) -> str:
    """Likeliest emotion of the first utterance, or ``unknown``."""
    emotion = dialog.emotion
    return "unknown" if emotion is None else max(EMOTIONS, key=lambda c: getattr(emotion, c))


def corpus_stats(dialogs: Iterable[Dialog]) -> dict[str, Any]:
    """Sessions and utterances by starting emotion (Table 2 of the paper), and by language."""
    sessions: Counter[str] = Counter()
    utterances: Counter[str] = Counter()
    languages: Counter[str] = Counter()
    for dialog in dialogs:
        start = start_of(dialog)
        sessions[start] += 1
        utterances[start] += len(dialog.messages)
        languages[dialog.language] += 1
    n_sessions, n_utterances = sum(sessions.values()), sum(utterances.values())
    return {
        "sessions": dict(sessions),
        "utterances": dict(utterances),
        "utterances_a_session": {k: utterances[k] / n for k, n in sessions.items()},
        "languages": dict(languages),
        "n_sessions": n_sessions,
        "n_utterances": n_utterances,
    }


def inspect_dialog(folder: Path, dialog_id: str) -> list[dict[str, Any]]:
    """Say where each dialog of an id went: ``kept`` on a side, ``dropped`` with its reason, or ``quarantined``.

    The sessions of a conversation that was cut are found by the conversation's id, too.

    Raises:
        InputError: no such corpus, or no such id in it.
    """
    asked = dialog_id
    conversation = re.split("[#~]", asked)[0]  # what follows it: the number of the session, of the repetition
    dialog_id = plain_id(conversation) + asked[len(conversation) :]
    stories: list[dict[str, Any]] = []
    for side in SIDES:
        stories += [{"went": "kept", "side": side, **row} for p in parts(folder, side) for row in _of_id(p, dialog_id)]
    for path in parts(folder, "dropped"):
        for row in _of_id(path, dialog_id):
            place = row["utterance"]
            row["utterance"] = None if place is None else place + 1  # people count from 1
            stories.append({"went": "dropped", **row})
    if not stories:
        stories = [{"went": "quarantined", **row} for row in _quarantined(folder, asked)]
    if not stories:
        raise InputError(f"no dialog has the id {asked!r}", where=folder, fix="ids are those of the input rows")
    return stories


def _of_id(path: Path, dialog_id: str) -> list[dict[str, Any]]:
    ids = read_table(path, ["id"]).column("id")
    is_it = pc.equal(ids, dialog_id)
    for mark in "#~":
        is_it = pc.or_(is_it, pc.starts_with(ids, dialog_id + mark))
    if not pc.any(is_it).as_py():
        return []
    rows: list[dict[str, Any]] = read_table(path).filter(is_it).to_pylist()
    return rows


def _quarantined(folder: Path, dialog_id: str) -> Iterator[dict[str, Any]]:
    path = folder / "quarantine.jsonl"
    for _, row in read_lines(path) if path.is_file() else ():
        if isinstance(row, dict) and (_has_id(row, dialog_id) or made_id(str(row["file"]), row["line"]) == dialog_id):
            yield row


def _has_id(row: dict[str, Any], dialog_id: str) -> bool:
    """Whether the quarantined row, as far as it was kept, has this id: it may break off anywhere."""
    return (
        re.search(rf'"id":\s*{re.escape(json.dumps(dialog_id, ensure_ascii=False))}', str(row.get("row"))) is not None
    )


def examples(folder: Path, *, per_reason: int, seed: int = 0) -> dict[str, list[dict[str, Any]]]:
    """Draw dropped dialogs of each reason, by seed; their texts are there after ``--keep-dropped``."""
    import numpy as np

    rng = np.random.default_rng(seed)
    tables = [read_table(p) for p in parts(folder, "dropped")]
    table = pa.concat_tables(tables)
    reasons = table.column("reason").to_numpy(zero_copy_only=False)
    found = {}
    for reason in sorted(set(reasons.tolist())):
        rows = np.flatnonzero(reasons == reason)
        chosen = np.sort(rng.permutation(rows)[:per_reason])
        found[reason] = table.take(pa.array(chosen)).to_pylist()
    return found


def read_report(folder: Path) -> dict[str, Any]:
    """Give ``report.json`` of a corpus.

    Raises:
        InputError: no such corpus.
    """
    parts(folder, "train")
    report: dict[str, Any] = read_json(folder / "report.json")
    return report
