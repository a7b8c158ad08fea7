"""The ratings of a study out of its database, and their export."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pege import __version__
from pege.csvfile import write_csv
from pege.io import make_folder, write_atomic, write_json, write_rows
from pege.study.items import Item
from pege.study.raters import all_raters
from pege.study.store import Store
from pege.study.tables import answer, assignment, rater
from pege.study.votes import RatingRow

EXPORTS = ("ratings.csv", "ratings.jsonl", "ratings.parquet", "provenance.json")


def collect_ratings(store: Store, connection: Connection) -> list[RatingRow]:
    """All ratings of finished items by raters who are not excluded, without attention checks, in a fixed order."""
    query = (
        sa.select(
            assignment.c.item_id, assignment.c.seconds, rater.c.name, answer.c.metric, answer.c.place, answer.c.value,
            answer.c.is_derived, answer.c.given_at, assignment.c.is_flipped,
        )
        .join(assignment, assignment.c.id == answer.c.assignment_id)
        .join(rater, rater.c.id == assignment.c.rater_id)
        .where(
            rater.c.study_id == store.study_id, rater.c.excluded_at.is_(None), assignment.c.done_at.is_not(None)
        )
    )  # fmt: skip
    rows = [
        _row(store.items[r.item_id], r) for r in connection.execute(query) if store.items[r.item_id].kind != "check"
    ]
    return sorted(rows, key=lambda r: (r.dialog, r.utterance, r.metric, r.rater))


def _row(item: Item, r: Any) -> RatingRow:
    value = r.value
    if item.kind == "pair" and value != "tie":
        value = item.systems[("left", "right").index(value) ^ r.is_flipped]
    return RatingRow(
        item=f"{item.key}#{r.place}" if r.place else item.key,
        rater=r.name,
        metric=r.metric,
        value=value,
        system="/".join(item.systems),
        starter=item.starter,
        dialog=item.key,
        utterance=r.place,
        is_asked=not r.is_derived,
        seconds=round(r.seconds, 1),
        given_at=as_utc(r.given_at),
    )


def as_utc(seconds: float) -> str:
    """Seconds since 1970 as a UTC time."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def provenance(store: Store, connection: Connection, rows: Sequence[RatingRow]) -> dict[str, Any]:
    """Where ratings come from: the study, its files, versions, who is left out and why, a digest of what was said."""
    said = sorted((r.item, r.rater, r.metric, r.value) for r in rows)
    excluded = {r.name: r.excluded_why for r in all_raters(store, connection) if r.excluded_at is not None}
    return {
        **store.study.about,
        "title": store.study.design.title.model_dump(exclude_none=True),
        "exported_at": as_utc(time.time()),
        "pege": __version__,
        "n_ratings": len(rows),
        "n_raters": len({r.rater for r in rows}),
        "excluded": excluded,
        "ratings_sha256": hashlib.sha256(repr(said).encode()).hexdigest(),
    }


def write_export(path: Path, rows: Sequence[RatingRow], about: dict[str, Any]) -> None:
    """Write one of `EXPORTS`, by its name's suffix, whole or not at all; Parquet carries the provenance too."""
    if path.suffix == ".json":
        write_json(path, about)
    elif path.suffix == ".csv":
        given = ((r.model_dump() | {"is_asked": int(r.is_asked)}).values() for r in rows)
        write_csv(path, list(RatingRow.model_fields), given)
    elif path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = list(RatingRow.model_fields)
        table = pa.Table.from_pydict({n: [getattr(r, n) for r in rows] for n in names})
        table = table.replace_schema_metadata({"pege.provenance": json.dumps(about, ensure_ascii=False)})
        with write_atomic(path) as temporary:
            pq.write_table(table, temporary, compression="zstd")
    else:
        write_rows(path, rows)


def write_exports(folder: Path, store: Store, results: dict[str, Any], about: dict[str, Any]) -> None:
    """Write ``results.json``, all of `EXPORTS`, and ``SYSTEM.ratings.csv`` for `pege report --ratings SYSTEM=FILE`."""
    make_folder(folder)
    with store.reading() as connection:
        rows = collect_ratings(store, connection)
    for name in EXPORTS:
        write_export(folder / name, rows, about)
    for system in store.study.design.systems:
        _write_report_ratings(folder / f"{system}.ratings.csv", store, [r for r in rows if r.system == system])
    write_json(folder / "results.json", results)


def _write_report_ratings(path: Path, store: Store, rows: Sequence[RatingRow]) -> None:
    """One rating a dialog, rater and scale, as `pege.metrics.ratings` reads them: utterances are averaged."""
    ids = {i.key: i.dialogs[0].id for i in store.items.values() if i.kind == "dialog"}
    given: dict[tuple[str, str, str], list[float]] = {}
    for r in rows:
        if r.dialog in ids:
            given.setdefault((ids[r.dialog], r.rater, r.metric), []).append(float(r.value))
    if not given:
        return
    write_csv(path, ("id", "rater", "scale", "rating"), ((*key, sum(v) / len(v)) for key, v in given.items()))
